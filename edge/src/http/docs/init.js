"use strict";

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "/api/openapi.json",
  tryItOutEnabled: true,
  // By default a document may be sent to a validator elsewhere, though not from localhost.
  validatorUrl: null,
});
