use euhub_edge::plan::{Body, Plan, PlanError};

use crate::support::*;

#[test]
fn methods_and_bindings() {
    let methods = PLAN.methods();
    assert_eq!(methods.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["Get", "Update", "Plain"]);
    let get = &methods[0];
    assert_eq!(get.service, "codec.test.Library");
    assert_eq!(get.grpc_path.path(), "/codec.test.Library/Get");
    assert_eq!((get.input, get.output), (id("GetRequest"), id("Article")));
    assert_eq!(PLAN.message_name(get.input), "codec.test.GetRequest");
    assert!(!get.client_streaming && !get.server_streaming);
    let bindings: Vec<_> =
        get.bindings.iter().map(|b| (b.verb.as_str(), b.template.as_str(), &b.body)).collect();
    assert_eq!(
        bindings,
        [
            ("GET", "/v1/{name=articles/*}", &Body::None),
            ("POST", "/v1/articles:get", &Body::All),
            ("REPORT", "/v1/articles", &Body::None)
        ]
    );
    assert!(get.bindings[0].response_body.is_none());
    assert_eq!(get.bindings[2].response_body.as_ref().unwrap().name, "keywords");
    let update = &methods[1];
    assert!(update.client_streaming && update.server_streaming);
    assert_eq!(update.bindings[0].body, Body::Field(PLAN.field(id("UpdateRequest"), "article").unwrap()));
    assert!(methods[2].bindings.is_empty());
}

#[test]
fn refuses_what_cannot_be_served() {
    assert!(matches!(Plan::compile(b"\xff"), Err(PlanError::Descriptors(_))));
    for (rule, reason) in [
        ("get: \"/v1\" body: \"nope\"", "no field `nope`"),
        ("get: \"/v1\" response_body: \"nope\"", "no field `nope`"),
        ("body: \"*\"", "no path template"),
        ("custom { kind: \"NOT A VERB\" path: \"/v1\" }", "no HTTP method"),
        (
            "get: \"/v1\" additional_bindings { get: \"/v2\" additional_bindings { get: \"/v3\" } }",
            "cannot be nested",
        ),
    ] {
        let error = Plan::compile(&descriptor_set(rule)).unwrap_err().to_string();
        assert!(error.contains("bad.Service.Call") && error.contains(reason), "{error}");
    }
    assert_eq!(Plan::compile(&descriptor_set("get: \"/v1\"")).unwrap().methods().len(), 1);
}

fn descriptor_set(rule: &str) -> Vec<u8> {
    let source = format!(
        "syntax = \"proto3\"; package bad; import \"google/api/annotations.proto\"; message M {{ string name = 1; }}
         service Service {{ rpc Call(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }} }}"
    );
    let folder = std::env::temp_dir().join(format!("euhub-edge-plan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("bad.proto"), source).unwrap();
    let api = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut compiler = protox::Compiler::new([folder, api]).unwrap();
    compiler.include_imports(true).open_file("bad.proto").unwrap();
    compiler.encode_file_descriptor_set()
}
