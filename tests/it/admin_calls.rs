//! Every RPC of the descriptor set: which need the scope `admin` or `backup`, and the audit row that each call of those leaves.

use std::collections::HashSet;

use euhub::proto::DESCRIPTOR_SET;
use euhub_edge::plan::{Body, HttpBinding, MethodPlan, Plan};
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::admin_keys::{audit, key};
use crate::hub::{Answer, Hub, send};

/// What readers and visitors may call; all else is administration.
const PUBLIC: [&str; 23] = [
    "AdminService/GetStatus",
    "ArticleService/ExportArticles",
    "ArticleService/GetArticle",
    "ArticleService/ListArticles",
    "ArticleService/WatchArticles",
    "KeywordService/GetKeyword",
    "KeywordService/ListKeywordArticles",
    "KeywordService/ListKeywordRelations",
    "KeywordService/ListKeywords",
    "KeywordService/PreviewKeyword",
    "OperationsService/GetDetailedHealth",
    "SearchService/Autocomplete",
    "SearchService/FindSimilarArticles",
    "SearchService/SearchArticles",
    "SentimentService/AnalyzeText",
    "SentimentService/CompareSentiment",
    "SentimentService/GetArticleSentiment",
    "SentimentService/GetKeywordSentiment",
    "SentimentService/GetSentimentTimeline",
    "SuggestionService/CreateSuggestion",
    "SuggestionService/GetSuggestion",
    "SuggestionService/ListSuggestions",
    "SuggestionService/VoteSuggestion",
];

fn action(method: &MethodPlan) -> String {
    format!("{}/{}", method.service.trim_start_matches("euhub.v1."), method.name)
}

/// Every RPC that only administrators may call.
fn admin_methods() -> Vec<MethodPlan> {
    let plan = Plan::compile(DESCRIPTOR_SET).unwrap();
    let known: HashSet<String> = plan.methods().iter().map(action).collect();
    let gone: Vec<_> = PUBLIC.iter().filter(|name| !known.contains(**name)).collect();
    assert!(gone.is_empty(), "no such RPC: {gone:?}");
    plan.methods().iter().filter(|method| !PUBLIC.contains(&action(method).as_str())).cloned().collect()
}

/// `/api/v1/{name=sources/*}:ingest` with a name that nothing has.
fn path(binding: &HttpBinding) -> String {
    let mut path = String::new();
    for (number, part) in binding.template.split(['{', '}']).enumerate() {
        let inside = number % 2 == 1;
        path.push_str(if inside { part.split_once('=').unwrap().1 } else { part });
    }
    path.replace('*', "0")
}

/// A call over REST that says nothing but what its path says.
async fn rest(hub: &Hub, method: &MethodPlan, key: Option<&str>, request_id: &str) -> Answer {
    let binding = &method.bindings[0];
    let mut request = hub.request(binding.verb.as_str(), &path(binding)).header("x-request-id", request_id);
    if binding.body != Body::None {
        request = request.header("content-type", "application/json").body("{}");
    }
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    send(request).await
}

/// The same over gRPC, where it must be refused: by what.
async fn grpc(hub: &Hub, method: &MethodPlan, key: Option<&str>, request_id: &str) -> Code {
    let mut client = tonic::client::Grpc::new(hub.channel().await);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert("x-request-id", request_id.parse().unwrap());
    if let Some(key) = key {
        let value: MetadataValue<_> = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(request, method.grpc_path.clone(), codec).await.unwrap_err().code()
}

#[tokio::test]
async fn all_that_is_not_public_is_refused_without_the_scope_and_leaves_a_row() {
    let hub = Hub::empty().await;
    let (id, reader) = key(&hub, &["read", "suggest"], None).await;
    let mut expected = Vec::new();
    for method in admin_methods() {
        let name = action(&method);
        for (key, actor, status, code, outcome) in [
            (None, "public".to_owned(), 401, Code::Unauthenticated, "UNAUTHENTICATED"),
            (Some(reader.as_str()), format!("key:{id}"), 403, Code::PermissionDenied, "PERMISSION_DENIED"),
        ] {
            let answer = rest(&hub, &method, key, "rest").await;
            assert_eq!(answer.status, status, "{name}: {}", answer.text);
            assert_eq!(answer.json()["error"]["status"], outcome, "{name}");
            assert_eq!(
                answer.headers.get("www-authenticate").is_some_and(|value| value == "Bearer"),
                status == 401,
                "{name}"
            );
            assert_eq!(grpc(&hub, &method, key, "grpc").await, code, "{name}");
            for request_id in ["rest", "grpc"] {
                expected.push((actor.clone(), name.clone(), outcome.to_owned(), request_id.to_owned()));
            }
        }
    }
    let rows = audit(&hub).await;
    assert!(rows.iter().all(|row| row.client == "127.0.0.1" && row.resource.is_empty()), "{rows:?}");
    let found: Vec<_> =
        rows.into_iter().map(|row| (row.actor, row.action, row.outcome, row.request_id)).collect();
    assert_eq!(found, expected);
}

/// Whether it worked, failed or found nothing; whoever wrote the row, the call's own transaction or the layer in front of it.
#[tokio::test]
async fn every_call_of_an_administrator_leaves_one_row() {
    let hub = Hub::empty().await;
    for (number, method) in admin_methods().iter().enumerate() {
        let (name, request_id) = (action(method), format!("call-{number}"));
        let answer = rest(&hub, method, Some(&hub.admin_key), &request_id).await;
        assert!(!matches!(answer.status, 401 | 403 | 500..), "{name}: {} {}", answer.status, answer.text);
        let rows: Vec<_> = audit(&hub).await.into_iter().filter(|row| row.request_id == request_id).collect();
        assert_eq!(rows.len(), 1, "{name}: {rows:?}");
        match answer.status {
            200 => assert_eq!(rows[0].outcome, "ok", "{name}"),
            _ => assert_eq!(answer.json()["error"]["status"], rows[0].outcome.as_str(), "{name}"),
        }
    }
}

#[tokio::test]
async fn what_is_public_leaves_no_row() {
    let hub = Hub::seeded().await;
    let plan = Plan::compile(DESCRIPTOR_SET).unwrap();
    for method in plan.methods().iter().filter(|method| PUBLIC.contains(&action(method).as_str())) {
        // A watch has no end to read to.
        if method.name != "WatchArticles" {
            let answer = rest(&hub, method, None, "public").await;
            assert!(!matches!(answer.status, 401 | 403 | 500..), "{}: {}", method.name, answer.text);
        }
    }
    assert!(audit(&hub).await.is_empty());
}
