//! `buf.validate` rules in the OpenAPI document, and how requests differ from answers by them.

use serde_json::{Value as Json, json};

use crate::{
    json_schema::check,
    openapi::{document, keys, parameters, resolved, rules},
};

fn parameter<'d>(document: &'d Json, path: &str, verb: &str, name: &str) -> &'d Json {
    let found = parameters(document, &document["paths"][path][verb]).into_iter().find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("no {name} in {verb} {path}")).1
}

#[tokio::test]
async fn each_rule_has_its_counterpart() {
    let document = document(rules()).await;
    let body = &document["paths"]["/v1/all"]["post"]["requestBody"];
    assert_eq!(body["required"], true);
    let schema = resolved(&document, &body["content"]["application/json"]["schema"]);
    let (text, integer) = (
        |rules: Json| with(json!({"type": "string"}), rules),
        |rules: Json| {
            with(
                json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX}),
                rules,
            )
        },
    );
    let kind = json!({"$ref": "#/components/schemas/rules.v1.Kind"});
    let expected = [
        ("free", text(json!({}))),
        ("length", text(json!({"minLength": 1, "maxLength": 9}))),
        ("exact", text(json!({"minLength": 2, "maxLength": 2}))),
        ("bytes", text(json!({"minLength": 2, "maxLength": 8}))),
        ("pattern", text(json!({"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}))),
        ("flags", text(json!({"description": "Matches `(?i)abc` (RE2)."}))),
        (
            "affixes",
            text(json!({"allOf": [
                {"pattern": r"^a\."}, {"pattern": "z$"}, {"pattern": r"\+"}, {"not": {"pattern": r"\?"}},
            ]})),
        ),
        ("prefix", text(json!({"pattern": r"^a\."}))),
        ("listed", text(json!({"enum": ["a", "b"]}))),
        ("constant", text(json!({"const": "c"}))),
        ("refused", text(json!({"not": {"enum": ["x"]}}))),
        ("mail", text(json!({"format": "email"}))),
        ("link", text(json!({"format": "uri-reference"}))),
        ("data", text(json!({"contentEncoding": "base64", "minLength": 2, "maxLength": 8}))),
        ("range", integer(json!({"minimum": 0, "maximum": 100}))),
        (
            "open",
            json!({"type": "integer", "format": "int32", "exclusiveMinimum": -5, "exclusiveMaximum": 5}),
        ),
        ("outside", integer(json!({"anyOf": [{"exclusiveMinimum": 1}, {"exclusiveMaximum": -1}]}))),
        ("oneOf", integer(json!({"enum": [0, 7]}))),
        ("noneOf", integer(json!({"not": {"enum": [0, 7]}}))),
        ("small", json!({"type": "integer", "minimum": 0, "maximum": 9})),
        ("big", text(json!({"format": "int64", "pattern": "^(0|-?[1-9][0-9]{0,18})$"}))),
        (
            "known",
            text(json!({"format": "int64", "pattern": "^(0|-?[1-9][0-9]{0,18})$", "enum": ["0", "5"]})),
        ),
        ("share", json!({"type": "number", "format": "double", "minimum": 0.0, "maximum": 1.0})),
        ("finite", json!({"type": "number", "format": "double"})),
        ("any", json!({"type": ["number", "string"], "format": "double", "pattern": "^(NaN|-?Infinity)$"})),
        ("tenth", json!({"type": "number", "format": "float", "enum": [0.0, 0.1]})),
        ("yes", json!({"type": "boolean", "const": true})),
        ("kind", json!({"anyOf": [kind, integer(json!({}))]})),
        ("defined", kind.clone()),
        ("second", json!({"enum": ["KIND_UNSPECIFIED", "KIND_TWO"]})),
        ("notFirst", json!({"enum": ["KIND_UNSPECIFIED", "KIND_TWO"]})),
        (
            "tags",
            json!({"type": "array", "items": text(json!({"minLength": 2})), "minItems": 1, "maxItems": 3, "uniqueItems": true}),
        ),
        ("kinds", json!({"type": "array", "items": kind})),
        (
            "counts",
            json!({
                "type": "object",
                "additionalProperties": integer(json!({"minimum": 1})),
                "propertyNames": {"maxLength": 3},
                "minProperties": 1,
                "maxProperties": 2,
            }),
        ),
        (
            "byNumber",
            json!({"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": "^(0|-?[1-9][0-9]{0,18})$"}}),
        ),
        ("maybe", text(json!({"minLength": 1}))),
        ("needed", integer(json!({}))),
        ("nonEmpty", text(json!({"not": {"const": ""}}))),
        ("orEmpty", json!({"anyOf": [{"const": ""}, {"type": "string", "minLength": 3}]})),
        ("unchecked", text(json!({}))),
        ("wrapped", text(json!({"maxLength": 3}))),
        ("before", text(json!({"format": "date-time"}))),
        ("filter", json!({"$ref": "#/components/schemas/rules.v1.Filter"})),
        ("left", text(json!({}))),
        ("right", text(json!({}))),
    ];
    let properties = schema["properties"].as_object().unwrap();
    for (name, expected) in &expected {
        assert_eq!(properties[*name], *expected, "{name}");
    }
    assert_eq!(properties.len(), expected.len());
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["allOf"], json!([{"oneOf": [{"required": ["left"]}, {"required": ["right"]}]}]));
    let required = [
        "length", "exact", "bytes", "affixes", "prefix", "listed", "constant", "mail", "data", "outside",
        "noneOf", "big", "yes", "tags", "counts", "needed", "nonEmpty", "before",
    ];
    assert_eq!(schema["required"], json!(required));

    for (name, good, bad) in [
        ("length", json!("é"), json!("")),
        ("exact", json!("ab"), json!("a")),
        ("pattern", json!("a b"), json!("a\u{7}")),
        ("affixes", json!("a.+z"), json!("a.z")),
        ("listed", json!("b"), json!("c")),
        ("constant", json!("c"), json!("d")),
        ("refused", json!("y"), json!("x")),
        ("data", json!("AAAAAA"), json!("A")),
        ("range", json!(100), json!(101)),
        ("open", json!(4), json!(5)),
        ("outside", json!(2), json!(1)),
        ("oneOf", json!(7), json!(8)),
        ("noneOf", json!(8), json!(7)),
        ("small", json!(9), json!(10)),
        ("big", json!("-9223372036854775808"), json!(1)),
        ("known", json!("5"), json!("6")),
        ("share", json!(0.5), json!("NaN")),
        ("any", json!("-Infinity"), json!("nan")),
        ("yes", json!(true), json!(false)),
        ("kind", json!(77), json!("KIND_THREE")),
        ("defined", json!("KIND_ONE"), json!(77)),
        ("second", json!("KIND_TWO"), json!("KIND_ONE")),
        ("tags", json!(["ab", "cd"]), json!(["ab", "ab"])),
        ("kinds", json!(["KIND_ONE"]), json!([77])),
        ("counts", json!({"a": 1}), json!({"a": 0})),
        ("byNumber", json!({"-1": ""}), json!({"x": ""})),
        ("nonEmpty", json!("x"), json!("")),
        ("orEmpty", json!(""), json!("ab")),
        ("wrapped", json!("abc"), json!("abcd")),
        ("filter", json!({"text": "x"}), json!({})),
    ] {
        check(&document, &properties[name], &good).unwrap();
        assert!(check(&document, &properties[name], &bad).is_err(), "{name}: {bad}");
    }

    // The query has the same rules, and asks for the same fields.
    let get = parameters(&document, &document["paths"]["/v1/all"]["get"]);
    for (name, expected) in &expected {
        match get.iter().find(|(found, _)| found == name) {
            Some((_, parameter)) => {
                assert_eq!(parameter["schema"], *expected, "{name}");
                assert_eq!(parameter.get("required").is_some(), required.contains(name), "{name}");
            }
            None => assert!(["counts", "byNumber", "filter"].contains(name), "{name}"),
        }
    }
    // It is checked only when some part of its message is there.
    assert_eq!(parameter(&document, "/v1/all", "get", "filter.text").get("required"), None);
}

fn with(mut schema: Json, more: Json) -> Json {
    schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    schema
}

#[tokio::test]
async fn what_the_path_holds_follows_from_the_rules_of_its_field() {
    let document = document(rules()).await;
    let schema = |path: &str, name: &str| parameter(&document, path, "get", name)["schema"].clone();
    assert_eq!(schema("/v1/kinds/{kind}", "kind"), json!({"$ref": "#/components/schemas/rules.v1.Kind"}));
    assert_eq!(
        schema("/v1/words/{word}", "word"),
        json!({"type": "string", "minLength": 1, "pattern": "^[^/]+$", "enum": ["a", "b"]})
    );
    assert_eq!(schema("/v1/numbers/{number}", "number")["minimum"], 1);
    assert_eq!(schema("/v1/files/{file}", "file"), json!({"type": "string", "maxLength": 24}));
    let file = parameter(&document, "/v1/files/{file}", "get", "file");
    assert_eq!(
        file["description"],
        "Part of `path` (`files/**`): Any number of segments, with the slashes between them."
    );
    let shop = &parameter(&document, "/v1/shops/{shop}/things/{thing}", "patch", "shop")["schema"];
    assert_eq!(
        *shop,
        json!({"type": "string", "minLength": 1, "pattern": "^[^/]+$", "maxLength": 60 - "shops//things/x".len()})
    );
    // A message that has to be there has to have its fields.
    assert_eq!(parameter(&document, "/v1/kinds/{kind}", "get", "filter.text")["required"], true);
}

#[tokio::test]
async fn requests_are_described_apart_from_answers() {
    let document = document(rules()).await;
    let schemas = &document["components"]["schemas"];
    let answer = &schemas["rules.v1.Answer"];
    assert_eq!(answer["required"], json!(["always", "kinds", "number", "big"]));
    assert_eq!(answer.get("additionalProperties"), None);
    assert_eq!(answer["properties"]["thing"], json!({"$ref": "#/components/schemas/rules.v1.Thing"}));
    let maybe =
        &document["paths"]["/v1/all:answer"]["get"]["responses"]["200"]["content"]["application/json"];
    assert_eq!(maybe["schema"], json!({"anyOf": [{"type": "string"}, {"type": "null"}]}));

    let (thing, input, update) =
        (&schemas["rules.v1.Thing"], &schemas["rules.v1.Thing-Input"], &schemas["rules.v1.Thing-Update"]);
    assert_eq!(thing["required"], json!(["name", "title", "parts", "count", "seen", "secret"]));
    assert_eq!(thing["properties"]["title"].get("maxLength"), None);
    assert_eq!(input["required"], json!(["name", "title"]));
    assert_eq!((update.get("required"), &update["additionalProperties"]), (None, &json!(false)));
    for request in [input, update] {
        let properties = &request["properties"];
        assert_eq!(keys(properties), keys(&thing["properties"]));
        assert_eq!(properties["title"]["maxLength"], 20);
        assert_eq!(properties["parts"]["items"]["$ref"], "#/components/schemas/rules.v1.Part-Input");
        assert_eq!(properties["seen"]["items"]["$ref"], "#/components/schemas/rules.v1.Part");
        assert_eq!(
            (&properties["count"]["readOnly"], &properties["secret"]["writeOnly"]),
            (&json!(true), &json!(true))
        );
    }
    assert_eq!(input["properties"]["part"]["$ref"], "#/components/schemas/rules.v1.Part-Input");
    assert_eq!(update["properties"]["part"]["$ref"], "#/components/schemas/rules.v1.Part-Update");
    // The body of one field: the other fields are in the query, but for those of the path.
    let create = &document["paths"]["/v1/shops/{shop}/things"]["post"];
    assert_eq!(
        create["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/rules.v1.Thing-Input"
    );
    assert_eq!(create["requestBody"]["required"], true);
    let names: Vec<_> = parameters(&document, create).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["shop", "thingId"]);
}

#[tokio::test]
async fn what_the_path_sets_is_not_asked_of_the_body() {
    let document = document(rules()).await;
    let item = &document["paths"]["/v1/shops/{shop}/things/{thing}"];
    let body = |operation: &Json| operation["requestBody"]["content"]["application/json"]["schema"].clone();
    assert_eq!(body(&item["patch"]), json!({"$ref": "#/components/schemas/rules.v1.Thing-Update"}));
    assert_eq!(
        parameters(&document, &item["patch"]).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["shop", "thing", "updateMask"]
    );
    // Under a mask, which the query of the PUT and the body of the POST may hold, no field has to be there.
    assert_eq!(body(&item["put"]), json!({"$ref": "#/components/schemas/rules.v1.Thing-Update"}));
    let change = &document["paths"]["/v1/shops/{shop}/things/{thing}:change"]["post"];
    let (schema, sent) = (body(change), json!({"thing": {"title": "x"}, "updateMask": "title"}));
    check(&document, &schema, &sent).unwrap();
    check(&document, &schema, &json!({})).unwrap();
    check(&document, &schema, &json!({"thing": {"colour": "red"}})).unwrap_err();
    assert_eq!(schema["properties"]["thing"]["properties"]["name"]["readOnly"], true);
    assert_eq!(change["requestBody"]["required"], false);
}
