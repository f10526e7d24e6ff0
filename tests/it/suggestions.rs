//! `/suggestions`: what people propose and vote for.

use euhub::proto::suggestion_service_client::SuggestionServiceClient;
use euhub::proto::{
    CreateSuggestionRequest, GetSuggestionRequest, ListSuggestionsRequest, RejectSuggestionRequest,
    Suggestion, SuggestionState, VoteSuggestionRequest,
};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::admin_keys::key;
use crate::hub::{Answer, Hub, encode, send};
use crate::keywords::{create, keyword, number};
use crate::paging::{all, names};

const PATH: &str = "/api/v1/suggestions";

/// A call with a key, or without one.
pub async fn call(hub: &Hub, key: Option<&str>, method: &str, path: &str, body: Value) -> Answer {
    let mut request = hub.request(method, path);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    send(request).await
}

pub fn term(term: &str, language: &str) -> Value {
    json!({"term": term, "language": language})
}

/// Proposes without a key.
pub async fn propose(hub: &Hub, body: Value) -> Answer {
    call(hub, None, "POST", PATH, body).await
}

/// The name of a new suggestion.
pub async fn suggest(hub: &Hub, body: Value) -> String {
    let made = propose(hub, body).await.ok();
    assert_eq!((&made["created"], &made["existingKeyword"]), (&json!(true), &json!("")), "{made}");
    made["suggestion"]["name"].as_str().unwrap().to_owned()
}

pub async fn get(hub: &Hub, name: &str) -> Value {
    hub.get(&format!("/api/v1/{name}")).await.ok()
}

pub async fn decide(hub: &Hub, name: &str, verb: &str, body: Value) -> Answer {
    hub.admin("POST", &format!("/api/v1/{name}:{verb}"), body).await
}

/// The `ErrorInfo` of an error.
pub fn info(answer: &Answer) -> Value {
    let details = answer.json()["error"]["details"].as_array().unwrap().clone();
    details.into_iter().find(|detail| detail["reason"].is_string()).expect("an ErrorInfo")
}

#[tokio::test]
async fn anybody_proposes_and_the_address_of_the_proposer_never_comes_back() {
    let hub = Hub::seeded().await;
    let body = json!({
        "term": "  Heat pumps ", "language": "en", "category": "energy", "reason": "Homes.\nMany.",
        "translations": [{"language": "de", "term": "Wärmepumpen"}, {"language": "de", "term": "Wärmepumpen"}],
        "contactEmail": "ana@example.eu", "state": "SUGGESTION_STATE_APPROVED", "voteCount": 99,
    });
    let made = propose(&hub, body).await;
    assert!(!made.text.contains("ana@"), "{}", made.text);
    let made = made.ok();
    let suggestion = &made["suggestion"];
    assert_eq!((&made["created"], &suggestion["term"]), (&json!(true), &json!("Heat pumps")));
    assert_eq!(suggestion["translations"], json!([{"language": "de", "term": "Wärmepumpen"}]));
    assert_eq!(suggestion["state"], "SUGGESTION_STATE_PENDING", "only the server sets it");
    assert_eq!(suggestion["voteCount"], 1, "the proposer's");
    assert_eq!((&suggestion["category"], &suggestion["reason"]), (&json!("energy"), &json!("Homes.\nMany.")));
    assert_eq!(suggestion["latestEvaluation"], Value::Null);
    let name = suggestion["name"].as_str().unwrap();
    assert_eq!(&get(&hub, name).await, suggestion);
    let kept: String =
        sqlx::query_scalar("SELECT contact_email FROM suggestions").fetch_one(&hub.db).await.unwrap();
    assert_eq!(kept, "ana@example.eu");

    decide(&hub, name, "evaluate", json!({})).await.ok();
    for path in [
        PATH,
        &format!("/api/v1/{name}"),
        &format!("/api/v1/{name}/evaluations"),
        "/api/v1/suggestions:stats",
    ] {
        let answer = hub.admin("GET", path, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(!answer.text.contains("ana@"), "{path}: {}", answer.text);
    }
    let approved = decide(&hub, name, "approve", json!({})).await;
    assert!(!approved.text.contains("ana@"), "{}", approved.text);
}

#[tokio::test]
async fn limits_hold_at_the_limit_and_one_past_it() {
    let hub = Hub::empty().await;
    for language in ["en", "de", "fr", "es", "it", "pl", "sv", "nl", "da", "th"] {
        suggest(&hub, term(&format!("quantum {language}"), language)).await;
    }
    let long = "é".repeat(100);
    suggest(&hub, term(&long, "fr")).await;
    suggest(&hub, term("5G", "en")).await;
    suggest(&hub, json!({"term": "reason", "language": "en", "reason": "x".repeat(500)})).await;
    let with = |field: &str, value: Value| {
        let mut body = term("quantum", "en");
        body[field] = value;
        body
    };
    for (body, field) in [
        (term("é", "fr"), "suggestion.term"),
        (term(" é ", "fr"), "suggestion.term"),
        (term(&format!("{long}é"), "fr"), "suggestion.term"),
        (term("a\u{0}b", "en"), "suggestion.term"),
        (term("the of", "en"), "suggestion.term"),
        (term("?!", "en"), "suggestion.term"),
        (term("quantum", "fi"), "suggestion.language"),
        (term("quantum", ""), "suggestion.language"),
        (with("reason", json!("x".repeat(501))), "suggestion.reason"),
        (with("category", json!("Energy!")), "suggestion.category"),
        (
            with("translations", json!([{"language": "xx", "term": "Quanten"}])),
            "suggestion.translations[0].language",
        ),
        (with("translations", json!([{"language": "de", "term": "und"}])), "suggestion.translations[0].term"),
        (
            with("translations", json!(vec![json!({"language": "de", "term": "Quanten"}); 21])),
            "suggestion.translations",
        ),
        (with("contactEmail", json!("not an address")), "suggestion.contactEmail"),
        (with("contactEmail", json!(format!("{}@b.eu", "a".repeat(250)))), "suggestion.contactEmail"),
    ] {
        let answer = propose(&hub, body.clone()).await;
        assert_eq!(answer.violation(), field, "{body}");
        assert!(!answer.text.contains("not an address"), "an error repeats no address");
    }
    assert_eq!(number(&hub, "SELECT count(*) FROM suggestions").await, 13);
}

#[tokio::test]
async fn a_term_that_is_there_counts_as_a_vote() {
    let hub = Hub::seeded().await;
    // A keyword's term in any language, and its name.
    for (text, language) in [("  ENERGIE", "de"), ("Énergie", "fr"), ("energy   PRICES", "en")] {
        let answer = propose(&hub, term(text, language)).await.ok();
        assert_eq!((&answer["created"], &answer["suggestion"]), (&json!(false), &Value::Null), "{answer}");
        let found = answer["existingKeyword"].as_str().unwrap();
        assert!(["keywords/energy", "keywords/energy-prices"].contains(&found), "{answer}");
    }
    create(&hub, keyword("Rare Earths", &[("en", "lanthanides")])).await;
    assert_eq!(
        propose(&hub, term("rare earths", "en")).await.ok()["existingKeyword"],
        "keywords/rare-earths"
    );

    let mut body = term("Crème brûlée", "fr");
    body["translations"] = json!([{"language": "en", "term": "Burnt cream"}]);
    let name = suggest(&hub, body).await;
    let (_, first) = key(&hub, &["suggest"], None).await;
    let (_, second) = key(&hub, &["suggest"], None).await;
    let same = call(&hub, Some(&first), "POST", PATH, term("creme   BRULEE", "en")).await.ok();
    assert_eq!((&same["created"], &same["suggestion"]["name"]), (&json!(false), &json!(name)));
    assert_eq!(same["suggestion"]["voteCount"], 2);
    let translation = call(&hub, Some(&second), "POST", PATH, term("burnt CREAM", "en")).await.ok();
    assert_eq!(
        (&translation["suggestion"]["name"], &translation["suggestion"]["voteCount"]),
        (&json!(name), &json!(3))
    );
    let again = call(&hub, Some(&second), "POST", PATH, term("burnt cream", "en")).await.ok();
    assert_eq!(again["suggestion"]["voteCount"], 3, "one vote a client");
    assert_eq!(number(&hub, "SELECT count(*) FROM suggestions").await, 1);

    decide(&hub, &name, "reject", json!({"reason": "A dish."})).await.ok();
    let anew = suggest(&hub, term("crème brûlée", "fr")).await;
    assert_ne!(anew, name, "a closed suggestion is no obstacle");
}

#[tokio::test]
async fn a_client_has_one_vote() {
    let hub = Hub::seeded().await;
    let name = suggest(&hub, term("Heat pumps", "en")).await;
    let path = format!("/api/v1/{name}:vote");
    assert_eq!(
        call(&hub, None, "POST", &path, json!({})).await.ok()["voteCount"],
        1,
        "this address proposed it"
    );
    let (id, key) = key(&hub, &["suggest"], None).await;
    assert_eq!(call(&hub, Some(&key), "POST", &path, json!({})).await.ok()["voteCount"], 2);
    assert_eq!(call(&hub, Some(&key), "POST", &path, json!({})).await.ok()["voteCount"], 2);
    let at_once = futures_util::future::join_all((0..4).map(|_| hub.admin("POST", &path, json!({})))).await;
    assert!(at_once.iter().all(|answer| answer.ok()["voteCount"] == 3), "{at_once:?}");

    let voters: Vec<String> =
        sqlx::query_scalar("SELECT voter FROM suggestion_votes").fetch_all(&hub.db).await.unwrap();
    assert!(voters.contains(&format!("key:{id}")), "{voters:?}");
    let hash = voters.iter().find(|voter| !voter.starts_with("key:")).expect("the public's");
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT s::text || v::text FROM suggestions s JOIN suggestion_votes v ON v.suggestion_id = s.id
         UNION ALL SELECT l::text FROM audit_log l UNION ALL SELECT r::text FROM created_requests r",
    )
    .fetch_all(&hub.db)
    .await
    .unwrap();
    assert!(rows.iter().all(|row| !row.contains("127.0.0.1")), "no address is kept: {rows:?}");
    assert_eq!(number(&hub, "SELECT count(*) FROM voter_salt").await, 1);
    assert_eq!(hub.admin("POST", "/api/v1/suggestions/999:vote", json!({})).await.status, 404);
}

#[tokio::test]
async fn proposals_at_the_same_time_make_one_suggestion() {
    let hub = Hub::seeded().await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(key(&hub, &["suggest"], None).await.1);
    }
    let calls = keys.iter().map(|key| call(&hub, Some(key), "POST", PATH, term("Heat pumps", "en")));
    let answers = futures_util::future::join_all(calls).await;
    let created = answers.iter().filter(|answer| answer.ok()["created"] == true).count();
    assert_eq!(created, 1);
    assert_eq!(number(&hub, "SELECT vote_count::bigint FROM suggestions").await, 5);
}

#[tokio::test]
async fn a_retry_with_the_same_request_id_answers_with_the_first_result() {
    let hub = Hub::seeded().await;
    let path = format!("{PATH}?requestId=retry-1");
    let first = call(&hub, None, "POST", &path, term("Heat pumps", "en")).await.ok();
    assert_eq!(call(&hub, None, "POST", &path, term("Heat pumps", "en")).await.ok(), first);
    let (_, key) = key(&hub, &["suggest"], None).await;
    let other = call(&hub, Some(&key), "POST", &path, term("Heat pumps", "en")).await.ok();
    assert_eq!(
        (&other["created"], &other["suggestion"]["voteCount"]),
        (&json!(false), &json!(2)),
        "another caller"
    );
    assert_eq!(number(&hub, "SELECT count(*) FROM suggestions").await, 1);
}

#[tokio::test]
async fn suggestions_are_listed_by_votes_and_age_and_filtered() {
    let hub = Hub::seeded().await;
    let mut made = Vec::new();
    for (text, language) in [
        ("Heat pumps", "en"),
        ("Wärmenetz", "de"),
        ("Solar roofs", "en"),
        ("Éolienne", "fr"),
        ("Tidal", "en"),
    ] {
        made.push(suggest(&hub, term(text, language)).await);
    }
    let (_, key) = key(&hub, &["suggest"], None).await;
    for name in [&made[1], &made[3]] {
        call(&hub, Some(&key), "POST", &format!("/api/v1/{name}:vote"), json!({})).await.ok();
    }
    decide(&hub, &made[1], "evaluate", json!({})).await.ok();
    decide(&hub, &made[2], "reject", json!({"reason": "No."})).await.ok();
    let expect = |order: [usize; 5]| order.map(|at| made[at].clone()).to_vec();
    for size in [1, 2, 100] {
        assert_eq!(names(&all(&hub, PATH, "suggestions", size).await), expect([3, 1, 4, 2, 0]));
        let newest = all(&hub, &format!("{PATH}?orderBy=create_time%20desc"), "suggestions", size).await;
        assert_eq!(names(&newest), expect([4, 3, 2, 1, 0]));
    }
    for (parameters, found) in [
        ("state=SUGGESTION_STATE_EVALUATED", vec![1]),
        ("state=SUGGESTION_STATE_EVALUATED&state=SUGGESTION_STATE_REJECTED", vec![1, 2]),
        ("state=SUGGESTION_STATE_MERGED", vec![]),
        ("language=en", vec![4, 2, 0]),
        ("language=en&state=SUGGESTION_STATE_PENDING", vec![4, 0]),
        ("query=eolien", vec![3]),
        (&format!("query={}", encode("  WARME")), vec![1]),
    ] {
        let list = hub.get(&format!("{PATH}?showTotal=true&{parameters}")).await.ok();
        let expected: Vec<String> = found.iter().map(|at: &usize| made[*at].clone()).collect();
        assert_eq!(names(list["suggestions"].as_array().unwrap()), expected, "{parameters}");
        assert_eq!(list["totalSize"], expected.len(), "{parameters}");
    }
    let token =
        hub.get(&format!("{PATH}?pageSize=1")).await.ok()["nextPageToken"].as_str().unwrap().to_owned();
    assert_eq!(hub.get(&format!("{PATH}?language=en&pageToken={token}")).await.violation(), "pageToken");
    assert_eq!(hub.get(&format!("{PATH}?pageSize=101")).await.violation(), "pageSize");
    assert_eq!(hub.get(&format!("{PATH}?state=NO_SUCH")).await.status, 400);

    let stats = hub.admin("GET", "/api/v1/suggestions:stats", Value::Null).await.ok();
    let counts: Vec<i64> = stats["states"]
        .as_array()
        .unwrap()
        .iter()
        .map(|state| state["suggestionCount"].as_i64().unwrap())
        .collect();
    assert_eq!(counts, [3, 1, 0, 0, 1]);
    let languages: Vec<(&str, i64)> = stats["languages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["language"].as_str().unwrap(), row["suggestionCount"].as_i64().unwrap()))
        .collect();
    assert_eq!(languages, [("en", 2), ("de", 1), ("fr", 1)], "open ones");
    assert_eq!(stats["voteCount"], 7);
    assert_eq!(stats["oldestOpenTime"], get(&hub, &made[0]).await["createTime"]);
}

#[tokio::test]
async fn who_may_what() {
    let hub = Hub::seeded().await;
    let private = Hub::private().await;
    let name = suggest(&hub, term("winter", "en")).await;
    let (_, suggester) = key(&private, &["suggest"], None).await;
    let (_, reader) = key(&private, &["read"], None).await;
    let vote = |name: &str| format!("/api/v1/{name}:vote");
    assert_eq!(call(&private, None, "POST", PATH, term("winter", "en")).await.status, 401);
    assert_eq!(call(&private, Some(&reader), "POST", PATH, term("winter", "en")).await.status, 403);
    let made = call(&private, Some(&suggester), "POST", PATH, term("winter", "en")).await.ok();
    let own = made["suggestion"]["name"].as_str().unwrap();
    for (key, expected) in
        [(None, 401), (Some(&reader), 403), (Some(&suggester), 200), (Some(&private.admin_key), 200)]
    {
        let key = key.map(String::as_str);
        assert_eq!(call(&private, key, "POST", &vote(own), json!({})).await.status, expected);
    }
    for path in [PATH.to_owned(), format!("/api/v1/{own}")] {
        for (key, expected) in [(None, 401), (Some(&reader), 200), (Some(&suggester), 403)] {
            let key = key.map(String::as_str);
            assert_eq!(call(&private, key, "GET", &path, Value::Null).await.status, expected, "{path}");
        }
    }
    // Where reading is public, any key may do what anybody may.
    let (_, reader) = key(&hub, &["read"], None).await;
    assert_eq!(call(&hub, Some(&reader), "POST", &vote(&name), json!({})).await.status, 200);
    for (method, path, body) in [
        ("POST", format!("/api/v1/{name}:evaluate"), json!({})),
        ("POST", format!("/api/v1/{name}:approve"), json!({})),
        ("POST", format!("/api/v1/{name}:reject"), json!({"reason": "No."})),
        ("GET", format!("/api/v1/{name}/evaluations"), Value::Null),
        ("GET", "/api/v1/suggestions:stats".to_owned(), Value::Null),
    ] {
        assert_eq!(call(&hub, None, method, &path, body.clone()).await.status, 401, "{path}");
        assert_eq!(call(&hub, Some(&reader), method, &path, body).await.status, 403, "{path}");
    }
    assert_eq!(number(&hub, "SELECT count(*) FROM audit_log WHERE outcome = 'ok'").await, 0);
    assert_eq!(
        number(&hub, "SELECT count(*) FROM audit_log WHERE outcome <> 'ok'").await,
        10,
        "each refusal"
    );
}

#[tokio::test]
async fn the_same_over_grpc() {
    let hub = Hub::seeded().await;
    let mut client = SuggestionServiceClient::new(hub.channel().await);
    let suggestion = Suggestion {
        term: "Heat pumps".into(),
        language: "en".into(),
        contact_email: "ana@example.eu".into(),
        ..Default::default()
    };
    let request = CreateSuggestionRequest { suggestion: Some(suggestion), request_id: String::new() };
    let made = client.create_suggestion(request.clone()).await.unwrap().into_inner();
    let made = made.suggestion.filter(|_| made.created).expect("a new suggestion");
    assert_eq!(
        (made.state(), made.contact_email.as_str(), made.vote_count),
        (SuggestionState::Pending, "", 1)
    );
    let again = client.create_suggestion(request).await.unwrap().into_inner();
    assert_eq!((again.created, again.suggestion.as_ref()), (false, Some(&made)), "the same address");
    let name = made.name.clone();
    assert_eq!(
        client.get_suggestion(GetSuggestionRequest { name: name.clone() }).await.unwrap().into_inner(),
        made
    );
    let list = client.list_suggestions(ListSuggestionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.suggestions, [made]);
    let reject = RejectSuggestionRequest { name: name.clone(), reason: "No.".into() };
    let refused = client.reject_suggestion(reject.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(reject);
    request.metadata_mut().insert("authorization", format!("Bearer {}", hub.admin_key).parse().unwrap());
    let rejected = client.reject_suggestion(request).await.unwrap().into_inner();
    assert_eq!(rejected.state(), SuggestionState::Rejected);
    let refused = client.vote_suggestion(VoteSuggestionRequest { name }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let details = refused.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.metadata["state"].as_str()), ("WRONG_STATE", "REJECTED"));
}
