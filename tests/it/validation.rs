//! The `buf.validate` rules of `proto/`, as the core enforces them.

mod generator;
mod rules;

use std::sync::LazyLock;

use euhub::{
    proto,
    validation::{MAX_VIOLATIONS, Validate, Violation, check},
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, Value};
use prost_types::FieldMask;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTOR_SET).expect("a descriptor set"));

fn extension(name: &str) -> ExtensionDescriptor {
    POOL.get_extension_by_name(name).expect("an extension of the descriptor set")
}

macro_rules! checked_messages {
    ($($message:ident)*) => {
        /// The violations of an encoded message; nothing if this list lacks its type.
        fn violations_of(full_name: &str, wire: &[u8]) -> Option<Vec<Violation>> {
            $(if full_name == concat!("euhub.v1.", stringify!($message)) {
                return Some(violations(&proto::$message::decode(wire).expect("an encoded message")));
            })*
            None
        }
    };
}

checked_messages! {
    AnalyzeTextRequest ApiKey ApproveSuggestionRequest AutocompleteRequest CompareSentimentRequest
    CreateApiKeyRequest CreateBackupRequest CreateKeywordRequest CreateSourceRequest CreateSuggestionRequest DeleteApiKeyRequest DeleteBackupRequest
    DeleteDocumentRequest DeleteKeywordRequest DeleteSourceRequest EvaluateSuggestionRequest
    ExportArticlesRequest ExportAuditEntriesRequest ExportOpmlRequest Feed FindSimilarArticlesRequest GetArticleRequest
    GetArticleSentimentRequest GetBackupRequest GetCacheStatsRequest GetDetailedHealthRequest GetDocumentRequest GetKeywordRequest GetKeywordSentimentRequest GetLlmStatsRequest GetLogRequest
    GetSentimentTimelineRequest GetSourceHealthRequest GetSourceRequest GetStatusRequest GetSuggestionRequest GetSuggestionStatsRequest
    ImportOpmlRequest IngestSourceRequest InvalidateCacheRequest Keyword KeywordTerm ListApiKeysRequest ListArticlesRequest
    ListAuditEntriesRequest ListBackupsRequest ListDocumentsRequest ListJobsRequest ListKeywordArticlesRequest ListKeywordRelationsRequest ListKeywordsRequest
    ListSourceHealthRequest ListSourceRunsRequest ListSourcesRequest ListSuggestionEvaluationsRequest ListSuggestionsRequest
    PreviewKeywordRequest PreviewSourceRequest RejectSuggestionRequest RestoreBackupRequest RunJobRequest SearchAdminRequest SearchArticlesRequest SetLogRequest Source
    Suggestion UpdateKeywordRequest
    UpdateSourceRequest UploadDocumentRequest VerifyBackupRequest VoteSuggestionRequest WatchArticlesRequest WatchBackupRequest
}

fn violations<T: Validate>(message: &T) -> Vec<Violation> {
    check(message).err().unwrap_or_default()
}

fn fields<T: Validate>(message: &T) -> Vec<String> {
    violations(message).into_iter().map(|violation| violation.field).collect()
}

/// A member of a message that is set.
fn set(message: &DynamicMessage, name: &str) -> Option<Value> {
    message
        .has_field_by_name(name)
        .then(|| message.get_field_by_name(name).expect("a known field").into_owned())
}

/// The limits that the design promises to clients, as numbers that a change of the rules cannot change with them.
#[test]
fn promised_limits_hold() {
    let search = |query: &str, page_size| {
        fields(&proto::SearchArticlesRequest { query: query.into(), page_size, ..Default::default() })
    };
    assert!(search(&"é".repeat(500), 100).is_empty());
    assert_eq!(search(&"é".repeat(501), 101), ["query", "page_size"]);
    assert_eq!(search("", -1), ["query", "page_size"]);

    let compare = |number: usize| {
        let keywords = (0..number).map(|number| format!("keywords/{number}")).collect();
        fields(&proto::CompareSentimentRequest { keywords, days: Some(365) })
    };
    assert!(compare(2).is_empty() && compare(5).is_empty());
    assert_eq!(compare(1), ["keywords"]);
    assert_eq!(compare(6), ["keywords"]);

    let timeline = |days| {
        fields(&proto::GetSentimentTimelineRequest { keyword: "energy".into(), days, ..Default::default() })
    };
    assert!(timeline(None).is_empty() && timeline(Some(1)).is_empty() && timeline(Some(365)).is_empty());
    assert_eq!(timeline(Some(0)), ["days"]);
    assert_eq!(timeline(Some(366)), ["days"]);
}

fn term(language: &str, term: &str) -> proto::KeywordTerm {
    proto::KeywordTerm { language: language.into(), term: term.into() }
}

fn keyword(terms: Vec<proto::KeywordTerm>) -> proto::Keyword {
    proto::Keyword { display_name: "Energy prices".into(), terms, ..Default::default() }
}

#[test]
fn path_leads_through_messages_and_items() {
    let terms = vec![term("en", "a"), term("de", &"x".repeat(101)), term("xx", "")];
    let request = proto::CreateKeywordRequest { keyword: Some(keyword(terms)), ..Default::default() };
    let found = violations(&request);
    let found: Vec<_> = found.iter().map(|violation| (violation.field.as_str(), violation.rule)).collect();
    let expected = [
        ("keyword.terms[1].term", "string.max_len"),
        ("keyword.terms[2].language", "string.in"),
        ("keyword.terms[2].term", "string.min_len"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn descriptions_name_the_limit_and_not_the_value() {
    let request = proto::ListArticlesRequest {
        keyword: "secret".repeat(20),
        source: vec![String::new(); 21],
        country: vec!["secret".into()],
        min_sentiment: Some(-1.5),
        sentiment_class: 77,
        page_size: 777,
        order_by: "secret".into(),
        ..Default::default()
    };
    let found = violations(&request);
    let found: Vec<_> = found.iter().map(|violation| violation.description.as_str()).collect();
    let expected = [
        "Must be at most 100 characters long.",
        "Must have at most 20 items; it has 21.",
        "Must match the pattern `^[A-Za-z]{2}$`.",
        "Must be at least -1.",
        "Must be one of the defined values.",
        "Must be at most 100.",
        "Must be empty or one of `publish_time desc`, `publish_time`, `create_time desc`.",
    ];
    assert_eq!(found, expected);
    assert_eq!(violations(&term("en", ""))[0].description, "Must not be empty.");
}

#[test]
fn violations_are_bounded() {
    let many = keyword(vec![term("", ""); 100]);
    assert_eq!(violations(&many).len(), MAX_VIOLATIONS);
}

/// AIP-203: what the server alone sets is ignored in requests.
#[test]
fn output_only_fields_are_not_checked() {
    let read = proto::Keyword { matched_terms: vec![term("xx", "")], ..keyword(vec![]) };
    assert_eq!(check(&read), Ok(()));
}

#[test]
fn update_mask_bounds_what_is_checked() {
    let update = |keyword: proto::Keyword, paths: &[&str]| {
        let update_mask = Some(FieldMask { paths: paths.iter().map(|path| path.to_string()).collect() });
        fields(&proto::UpdateKeywordRequest { keyword: Some(keyword), update_mask })
    };
    let category = |category: &str| proto::Keyword { category: category.into(), ..Default::default() };
    assert!(update(category("energy"), &["category"]).is_empty());
    assert_eq!(update(category("Energy!"), &["category"]), ["keyword.category"]);
    assert_eq!(update(category("Energy!"), &["description", "display_name"]), ["keyword.display_name"]);
    let both = ["keyword.display_name", "keyword.category"];
    assert_eq!(update(category("Energy!"), &["*"]), both);
    assert_eq!(update(category("Energy!"), &[]), both, "an empty mask is no mask");

    let terms = proto::Keyword { terms: vec![term("xx", "a")], ..Default::default() };
    assert_eq!(update(terms.clone(), &["terms"]), ["keyword.terms[0].language"]);
    assert!(update(terms, &["term"]).is_empty(), "part of a name is not a name");

    let name = proto::Keyword { name: "x".repeat(101), ..Default::default() };
    assert_eq!(update(name, &["category"]), ["keyword.name"], "the name tells which keyword");
    let absent = proto::UpdateKeywordRequest {
        keyword: None,
        update_mask: Some(FieldMask { paths: vec!["category".into()] }),
    };
    assert_eq!(fields(&absent), ["keyword"]);

    let hidden = proto::Keyword { boolean_query: "\0".into(), ..keyword(vec![term("", ""); 100]) };
    assert_eq!(
        update(hidden, &["boolean_query"]),
        ["keyword.boolean_query"],
        "what is ignored does not count"
    );
}
