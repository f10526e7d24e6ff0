//! Documents: uploads of every type and of every bad kind, their analysis, and that the press knows nothing of them.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use euhub::proto::document_service_client::DocumentServiceClient;
use euhub::proto::google::api::HttpBody;
use euhub::proto::{Document, UploadDocumentRequest};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::hub::{Answer, Hub, send};

const REPORT: &str = "Energy prices report\n\
    The energy prices crisis is a terrible disaster for the households of Europe. \
    Families suffer badly because the costs of heating rise again this winter.";

/// A PDF of these pages, one line of text each.
fn pdf(pages: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Count {} /Kids [{}] >>", pages.len(), kids.join(" ")),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for (number, text) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> \
             /Contents {} 0 R >>",
            5 + 2 * number
        ));
        let mut content = String::from("BT /F1 12 Tf 72 720 Td");
        for line in text.lines() {
            write!(content, " ({line}) Tj 0 -20 Td").unwrap();
        }
        content.push_str(" ET");
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    file_of(&objects, "")
}

/// Objects with their table and trailer.
fn file_of(objects: &[String], trailer: &str) -> Vec<u8> {
    let mut file = String::from("%PDF-1.4\n");
    let mut table = String::from("0000000000 65535 f \n");
    for (number, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", file.len()).unwrap();
        write!(file, "{} 0 obj\n{object}\nendobj\n", number + 1).unwrap();
    }
    let (start, size) = (file.len(), objects.len() + 1);
    write!(
        file,
        "xref\n0 {size}\n{table}trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n"
    )
    .unwrap();
    file.into_bytes()
}

/// A PDF that wants a password: the hashes in its dictionary belong to none.
fn encrypted_pdf() -> Vec<u8> {
    let hash = "a5".repeat(32);
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Count 0 /Kids [] >>".to_owned(),
        format!("<< /Filter /Standard /V 1 /R 2 /O <{hash}> /U <{hash}> /P -44 >>"),
    ];
    file_of(&objects, "/Encrypt 3 0 R /ID [<01> <01>]")
}

/// A ZIP archive.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A Word document of these paragraphs, as XML.
fn docx(paragraphs: &[&str]) -> Vec<u8> {
    let body: String = paragraphs.iter().map(|text| format!("<w:p>{text}</w:p>")).collect();
    let document =
        format!(r#"<?xml version="1.0"?><w:document xmlns:w="w"><w:body>{body}</w:body></w:document>"#);
    zip(&[("[Content_Types].xml", b"<Types/>"), ("word/document.xml", document.as_bytes())])
}

async fn upload(hub: &Hub, name: &str, bytes: Vec<u8>) -> Answer {
    let path = format!("/api/v1/documents:upload?fileName={}", crate::hub::encode(name));
    let request = hub.request("POST", &path).bearer_auth(&hub.admin_key).body(bytes);
    send(request.header("content-type", "application/octet-stream")).await
}

async fn get(hub: &Hub, path: &str) -> Answer {
    hub.admin("GET", path, Value::Null).await
}

async fn upload_by_grpc(hub: &Hub, name: &str, pieces: &[&[u8]]) -> Result<Document, Status> {
    let messages: Vec<UploadDocumentRequest> = pieces
        .iter()
        .map(|piece| UploadDocumentRequest {
            file_name: name.into(),
            content: Some(HttpBody { data: piece.to_vec().into(), ..HttpBody::default() }),
        })
        .collect();
    let mut request = Request::new(tokio_stream::iter(messages));
    let key: MetadataValue<_> = format!("Bearer {}", hub.admin_key).parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    let mut client = DocumentServiceClient::new(hub.channel().await);
    Ok(client.upload_document(request).await?.into_inner())
}

fn keywords(document: &Value) -> Vec<&str> {
    let links = document["keywords"].as_array().unwrap();
    links.iter().map(|link| link["keyword"].as_str().unwrap()).collect()
}

/// Everything that is counted of the press.
async fn press(db: &PgPool) -> Value {
    sqlx::query_scalar(
        "SELECT jsonb_build_object(
            'articles', (SELECT count(*) FROM articles), 'links', (SELECT count(*) FROM article_keywords),
            'counts', (SELECT jsonb_agg(article_count ORDER BY id) FROM keywords),
            'sources', (SELECT jsonb_agg(article_count ORDER BY id) FROM sources),
            'daily', (SELECT jsonb_agg(to_jsonb(d) ORDER BY keyword_id, day, source_id) FROM keyword_daily d))",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

async fn audited(db: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as("SELECT action, resource FROM audit_log WHERE action LIKE 'documents.%' ORDER BY id")
        .fetch_all(db)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_text_is_analysed_like_an_article_and_counted_nowhere() {
    let hub = Hub::seeded().await;
    let before = press(&hub.db).await;
    let document = upload(&hub, "Report (final).txt", REPORT.into()).await.ok();
    assert_eq!(document["fileName"], "Report (final).txt");
    assert_eq!(document["mediaType"], "text/plain");
    assert_eq!(document["byteCount"], REPORT.len());
    assert_eq!(document["pageCount"], Value::Null);
    assert_eq!(document["title"], "Energy prices report");
    assert_eq!(document["body"], REPORT);
    assert_eq!((&document["language"], &document["truncated"]), (&json!("en"), &json!(false)));
    let sentiment = &document["sentiment"];
    assert_eq!((&sentiment["abstained"], &sentiment["analyzer"]), (&json!(false), &json!("vader")));
    assert!(sentiment["score"].as_f64().unwrap() < -0.2, "{sentiment}");
    for phrase in sentiment["phrases"].as_array().unwrap() {
        let at = |name: &str| usize::try_from(phrase[name].as_u64().unwrap()).unwrap();
        let text: String = REPORT.chars().skip(at("start")).take(at("end") - at("start")).collect();
        assert_eq!((&phrase["field"], &phrase["text"]), (&json!("body"), &json!(text)));
    }
    assert!(keywords(&document).contains(&"keywords/energy-prices"), "{document}");
    let similar = document["similarArticles"].as_array().unwrap();
    assert_eq!((similar.len(), &document["similarArticlesMissing"]), (10, &json!("")));
    let similarity: Vec<f64> = similar.iter().map(|found| found["similarity"].as_f64().unwrap()).collect();
    assert!(similarity.is_sorted_by(|a, b| a >= b) && similarity[0] > 0.3, "{similarity:?}");

    let name = document["name"].as_str().unwrap();
    assert_eq!(get(&hub, &format!("/api/v1/{name}")).await.ok(), document, "reading it again is the same");
    let listed = get(&hub, "/api/v1/documents?showTotal=true&keyword=energy-prices").await.ok();
    assert_eq!((&listed["totalSize"], &listed["documents"][0]["name"]), (&json!(1), &json!(name)));
    assert_eq!(press(&hub.db).await, before, "the press counts no document");
    let found =
        hub.get("/api/v1/articles:search?query=%22Energy%20prices%20report%22&mode=LEXICAL").await.ok();
    assert_eq!(found["results"], json!([]), "no search of articles finds it");
}

#[tokio::test]
async fn a_language_without_an_analyzer_is_an_abstention() {
    let hub = Hub::empty().await;
    let text = "Die Energiepreise steigen in diesem Winter wieder, und viele Familien können die Kosten nicht mehr tragen.";
    let document = upload(&hub, "", text.into()).await.ok();
    assert_eq!((&document["language"], &document["fileName"]), (&json!("de"), &json!("")));
    assert_eq!(document["sentiment"]["abstained"], true);
    assert_eq!(document["sentiment"]["score"], Value::Null);
    assert!(!document["sentiment"]["abstainReason"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn pdf_and_word_are_told_by_content() {
    let hub = Hub::empty().await;
    // Each under the other's name.
    let document = upload(&hub, "a.docx", pdf(&["Energy prices\nrise again.", "Second page"])).await.ok();
    assert_eq!((&document["mediaType"], &document["pageCount"]), (&json!("application/pdf"), &json!(2)));
    assert_eq!(
        (&document["body"], &document["unreadPageCount"]),
        (&json!("Energy prices\nrise again.\nSecond page"), &json!(0))
    );
    assert_eq!(document["title"], "Energy prices");

    let fallback = "<mc:AlternateContent><mc:Choice><w:t>once</w:t></mc:Choice><mc:Fallback><w:t>twice</w:t></mc:Fallback></mc:AlternateContent>";
    let paragraphs = [
        "<w:r><w:t>Oil &amp; gas</w:t></w:r><w:r><w:t xml:space=\"preserve\"> &#x2013; prices</w:t></w:r>",
        "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:delText>deleted</w:delText></w:r>",
        fallback,
    ];
    let document = upload(&hub, "b.pdf", docx(&paragraphs)).await.ok();
    assert_eq!(document["body"], "Oil & gas – prices\na b\nc\nonce");
    let media_type = document["mediaType"].as_str().unwrap();
    assert!(media_type.ends_with("wordprocessingml.document"), "{media_type}");
    assert_eq!(document["pageCount"], Value::Null);
}

#[tokio::test]
async fn the_declared_charset_is_read_where_a_text_tells_none() {
    let hub = Hub::empty().await;
    let polish = b"Ceny energii rosn\xb1 w ca\xb3ej Europie".to_vec();
    let request = hub.request("POST", "/api/v1/documents:upload").bearer_auth(&hub.admin_key).body(polish);
    let document = send(request.header("content-type", "text/plain; charset=iso-8859-2")).await.ok();
    assert_eq!(document["body"], "Ceny energii rosną w całej Europie");
}

#[tokio::test]
async fn bad_files_are_refused_with_the_reason() {
    let hub = Hub::empty().await;
    let many = vec!["x"; 10_000];
    // Sixty-five megabytes of white space in a small file.
    let bomb = zip(&[("word/document.xml", &vec![b' '; (64 << 20) + 1])]);
    assert!(bomb.len() < 100_000);
    let mut lying = bomb.clone();
    let listing = lying.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    // The inflated size in the listing and before the data.
    lying[listing + 24..listing + 28].copy_from_slice(&100_u32.to_le_bytes());
    lying[22..26].copy_from_slice(&100_u32.to_le_bytes());
    let mut encrypted_zip = docx(&["<w:t>x</w:t>"]);
    let listings: Vec<usize> =
        (0..encrypted_zip.len() - 4).filter(|at| encrypted_zip[*at..].starts_with(b"PK\x01\x02")).collect();
    for listing in listings {
        encrypted_zip[listing + 8] |= 1;
    }
    let mut ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    ole.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
    let broken_word = zip(&[("word/document.xml", b"<w:document><w:body><w:p><w:t>cut o")]);
    let deep = zip(&[("word/document.xml", "<a>".repeat(100_000).as_bytes())]);
    for (what, bytes, said) in [
        ("empty", Vec::new(), "empty"),
        ("encrypted PDF", encrypted_pdf(), "encrypted"),
        ("encrypted ZIP", encrypted_zip, "encrypted"),
        ("encrypted Word", ole, "encrypted"),
        ("corrupt PDF", b"%PDF-1.7\n1 0 obj << garbage".to_vec(), "damaged"),
        ("corrupt ZIP", b"PK\x03\x04garbage".to_vec(), "damaged"),
        ("broken XML", broken_word, "damaged"),
        ("deep XML", deep, "damaged"),
        ("no Word document", zip(&[("xl/workbook.xml", b"<a/>")]), "by its content"),
        ("an image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "by its content"),
        ("a zip bomb", bomb, "decompressed"),
        ("10,000 pages", pdf(&many), "2000 pages; it has 10000"),
        ("a scan", pdf(&[""]), "no text"),
        ("white space", b" \n ".to_vec(), "no text"),
    ] {
        let answer = upload(&hub, "x.txt", bytes).await;
        assert_eq!(answer.violation(), "content", "{what}");
        assert!(answer.text.contains(said), "{what}: {}", answer.text);
    }
    // What the listing says may be trusted by the archive's reader, which then stops there, or not; it is no 500 and no document.
    assert_eq!(upload(&hub, "x", lying).await.violation(), "content");
    assert_eq!(get(&hub, "/api/v1/documents").await.ok()["documents"], json!([]));
    assert_eq!(audited(&hub.db).await, [], "nothing was done");
}

#[tokio::test]
async fn names_are_labels_without_folders() {
    let hub = Hub::empty().await;
    for name in ["../etc/passwd", "/a.txt", "a\\b.txt", "..", ".", "C:\\a.txt", "a/"] {
        assert_eq!(upload(&hub, name, REPORT.into()).await.violation(), "fileName", "{name}");
    }
    assert_eq!(upload(&hub, "a\nb", REPORT.into()).await.violation(), "fileName");
    assert_eq!(upload(&hub, &"é".repeat(256), REPORT.into()).await.violation(), "fileName");
    let longest = "é".repeat(255);
    assert_eq!(upload(&hub, &longest, REPORT.into()).await.ok()["fileName"], longest);
}

#[tokio::test]
async fn ten_megabytes_are_the_limit() {
    let hub = Hub::empty().await;
    let text = |length: usize| -> Vec<u8> { b"energy ".iter().copied().cycle().take(length).collect() };
    let document = upload(&hub, "big.txt", text(10 << 20)).await.ok();
    assert_eq!((&document["byteCount"], &document["truncated"]), (&json!(10 << 20), &json!(true)));
    assert_eq!(document["body"].as_str().unwrap().len(), 800_000);
    // Refused by its declared size, before any of it is sent.
    let mut connection = TcpStream::connect(hub.rest).await.unwrap();
    let head = format!(
        "POST /api/v1/documents:upload HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        hub.admin_key,
        (10 << 20) + 1
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    connection.read_exact(&mut status).await.unwrap();
    assert_eq!(status.escape_ascii().to_string(), "HTTP/1.1 413");
    let whole = text((10 << 20) + 1);
    let pieces: Vec<&[u8]> = whole.chunks(1 << 20).collect();
    let status = upload_by_grpc(&hub, "big.txt", &pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "content");
}

#[tokio::test]
async fn more_words_than_an_index_holds_are_refused() {
    let hub = Hub::empty().await;
    let mut text = String::new();
    let mut number = 0x1000_0000_u32;
    while text.len() < 790_000 {
        write!(text, "a{number:x}-b{number:x} ").unwrap();
        number += 1;
    }
    let answer = upload(&hub, "words.txt", text.into()).await;
    assert_eq!(answer.violation(), "content");
    assert!(answer.text.contains("different words"), "{}", answer.text);
}

#[tokio::test]
async fn the_same_bytes_are_the_same_document() {
    let hub = Hub::empty().await;
    let first = upload(&hub, "first.txt", REPORT.into()).await.ok();
    let bytes = REPORT.as_bytes();
    let again =
        upload_by_grpc(&hub, "second.txt", &[&bytes[..10], &bytes[10..11], &bytes[11..]]).await.unwrap();
    assert_eq!((json!(again.name), again.file_name.as_str()), (first["name"].clone(), "first.txt"));
    let other = pdf(&["At once"]);
    let (one, two) = tokio::join!(upload(&hub, "a", other.clone()), upload(&hub, "b", other));
    assert_eq!(one.ok()["name"], two.ok()["name"], "two at once too");
    let listed = get(&hub, "/api/v1/documents?showTotal=true").await.ok();
    assert_eq!(listed["totalSize"], 2);
}

#[tokio::test]
async fn uploads_and_deletions_are_audited() {
    let hub = Hub::empty().await;
    let name = upload(&hub, "a.txt", REPORT.into()).await.ok()["name"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/{name}");
    assert_eq!(hub.admin("DELETE", &path, Value::Null).await.status, 200);
    for method in ["GET", "DELETE"] {
        assert_eq!(hub.admin(method, &path, Value::Null).await.status, 404);
    }
    assert_eq!(get(&hub, "/api/v1/documents/x").await.status, 404);
    let acts = [("documents.upload", &name), ("documents.delete", &name)];
    assert_eq!(audited(&hub.db).await, acts.map(|(action, name)| (action.to_owned(), name.clone())));
    // Deleted bytes may come again.
    let again = upload(&hub, "a.txt", REPORT.into()).await.ok();
    assert_ne!(again["name"], json!(name));
}

#[tokio::test]
async fn documents_are_for_admins_only() {
    let hub = Hub::empty().await;
    let name = upload(&hub, "a.txt", REPORT.into()).await.ok()["name"].as_str().unwrap().to_owned();
    for (method, path) in [
        ("GET", "/api/v1/documents".to_owned()),
        ("GET", format!("/api/v1/{name}")),
        ("DELETE", format!("/api/v1/{name}")),
        ("POST", "/api/v1/documents:upload".to_owned()),
    ] {
        assert_eq!(send(hub.request(method, &path)).await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn keywords_and_documents_find_each_other_in_either_order() {
    let hub = Hub::empty().await;
    let name = upload(&hub, "a.txt", REPORT.into()).await.ok()["name"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/{name}");
    let keyword =
        json!({"displayName": "Heating", "terms": [{"language": "en", "term": "costs of heating"}]});
    assert_eq!(hub.admin("POST", "/api/v1/keywords", keyword).await.status, 200);
    let document = get(&hub, &path).await.ok();
    assert_eq!(keywords(&document), ["keywords/heating"]);
    assert_eq!(document["keywords"][0]["matchedTerm"], "costs of heating");
    assert_eq!(hub.get("/api/v1/keywords/heating").await.ok()["articleCount"], 0, "no article");

    let query = json!({"terms": [], "booleanQuery": "winter -summer"});
    let changed = hub.admin("PATCH", "/api/v1/keywords/heating?updateMask=terms,booleanQuery", query).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let second =
        upload(&hub, "b.txt", "A long winter is coming for the cities of the north.".into()).await.ok();
    assert_eq!(keywords(&second), ["keywords/heating"]);
    let third = upload(&hub, "c.txt", "A long winter comes after the summer of the north.".into()).await.ok();
    assert_eq!(keywords(&third), Vec::<&str>::new());
    let listed = get(&hub, "/api/v1/documents?keyword=keywords/heating&pageSize=1").await.ok();
    assert_eq!(listed["documents"][0]["name"], second["name"], "newest first");
    let token = listed["nextPageToken"].as_str().unwrap();
    let next = get(&hub, &format!("/api/v1/documents?keyword=keywords/heating&pageSize=1&pageToken={token}"))
        .await
        .ok();
    assert_eq!((&next["documents"][0]["name"], &next["nextPageToken"]), (&json!(name), &json!("")));
    assert_eq!(get(&hub, "/api/v1/documents?keyword=nothing").await.status, 404);

    assert_eq!(hub.admin("DELETE", "/api/v1/keywords/heating", Value::Null).await.status, 200);
    assert_eq!(keywords(&get(&hub, &path).await.ok()), Vec::<&str>::new());
}

#[tokio::test]
async fn without_a_model_all_but_similar_articles_is_there() {
    let hub = Hub::without_model().await;
    let document = upload(&hub, "a.txt", REPORT.into()).await.ok();
    assert_eq!(document["similarArticles"], json!([]));
    assert!(document["similarArticlesMissing"].as_str().unwrap().contains("model"), "{document}");
    assert!(keywords(&document).contains(&"keywords/energy-prices"));
}

#[tokio::test]
async fn a_document_from_before_the_model_gets_its_vector_when_it_is_read() {
    let hub = Hub::seeded().await;
    let document = upload(&hub, "a.txt", REPORT.into()).await.ok();
    sqlx::query("UPDATE documents SET embedding = NULL, embedding_model = NULL")
        .execute(&hub.db)
        .await
        .unwrap();
    let read = get(&hub, &format!("/api/v1/{}", document["name"].as_str().unwrap())).await.ok();
    assert_eq!(read, document);
}
