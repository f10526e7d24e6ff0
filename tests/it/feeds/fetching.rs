//! `ingest::fetch` against a server that misbehaves.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chrono::{TimeZone, Utc};
use euhub::ingest::feed;
use euhub::ingest::fetch::{Body, Conditional, FetchError, FetchPolicy, Fetched, Fetcher, RetryAfter};
use url::Url;

use super::server::{Reply, Server, head};

const FEED: &str = "<rss version='2.0'><channel><title>Die Küste</title><item><guid>1</guid><title>Flut</title></item></channel></rss>";
const MEGABYTE: usize = 1024 * 1024;

fn policy() -> FetchPolicy {
    FetchPolicy { allow_private: true, max_bytes: MEGABYTE, ..FetchPolicy::default() }
}

fn impatient() -> Fetcher {
    fetcher(FetchPolicy { total_timeout: Duration::from_millis(400), ..policy() })
}

fn fetcher(policy: FetchPolicy) -> Fetcher {
    Fetcher::new(policy).expect("a client")
}

async fn get(url: &Url) -> Result<Body, FetchError> {
    get_with(&fetcher(policy()), url).await
}

async fn get_with(fetcher: &Fetcher, url: &Url) -> Result<Body, FetchError> {
    match fetcher.fetch(url, &Conditional::default()).await? {
        Fetched::Body(body) => Ok(*body),
        Fetched::NotModified => panic!("304 without validators"),
    }
}

async fn error_for(reply: impl Fn() -> Reply + Send + Sync + 'static) -> FetchError {
    let server = Server::start(move |_, _| reply()).await;
    get(&server.url("/")).await.expect_err("must fail")
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("in memory");
    encoder.finish().expect("in memory")
}

fn brotli(plain: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    brotli::CompressorWriter::new(&mut compressed, 4096, 3, 20).write_all(plain).expect("in memory");
    compressed
}

#[tokio::test]
async fn plain_body_with_its_headers() {
    let server = Server::start(|_, _| {
        let headers = [
            ("Content-Type", "text/xml; charset=utf-8"),
            ("ETag", "\"a1\""),
            ("Last-Modified", "Sun, 01 Mar 2026 12:00:00 GMT"),
        ];
        Reply::new(200, &headers, FEED)
    })
    .await;
    let body = get(&server.url("/feed.xml")).await.expect("a body");
    assert_eq!(body.bytes, FEED);
    assert_eq!(body.status, 200);
    assert_eq!(body.content_type.as_deref(), Some("text/xml; charset=utf-8"));
    assert_eq!(body.etag.as_deref(), Some("\"a1\""));
    assert_eq!(body.last_modified.as_deref(), Some("Sun, 01 Mar 2026 12:00:00 GMT"));
    assert_eq!(body.final_url, server.url("/feed.xml"));
    assert_eq!(body.moved_permanently_to, None);
    let request = server.requests().concat().to_lowercase();
    assert!(request.contains("user-agent: euhub/") && request.contains("accept-encoding: "), "{request}");
    assert!(!request.contains("cookie") && !request.contains("referer"), "{request}");
}

#[tokio::test]
async fn wrong_charset_is_read_all_the_same() {
    let server = Server::start(|_, _| {
        let latin1: Vec<u8> = FEED.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
        Reply::new(200, &[("Content-Type", "text/xml; charset=utf-8")], latin1)
    })
    .await;
    let body = get(&server.url("/")).await.expect("a body");
    let feed = feed::parse(&body.bytes, body.content_type.as_deref(), &body.final_url).expect("a feed");
    assert_eq!(feed.title.as_deref(), Some("Die Küste"));
}

#[tokio::test]
async fn gzip_is_decompressed() {
    let server =
        Server::start(|_, _| Reply::new(200, &[("Content-Encoding", "gzip")], gzip(FEED.as_bytes()))).await;
    assert_eq!(get(&server.url("/")).await.expect("a body").bytes, FEED);
}

#[tokio::test]
async fn brotli_is_decompressed() {
    let server =
        Server::start(|_, _| Reply::new(200, &[("Content-Encoding", "br")], brotli(FEED.as_bytes()))).await;
    assert_eq!(get(&server.url("/")).await.expect("a body").bytes, FEED);
}

#[tokio::test]
async fn broken_gzip_fails() {
    let error = error_for(|| Reply::new(200, &[("Content-Encoding", "gzip")], "this is not gzip")).await;
    assert_eq!(error.class(), "invalid_response");
}

#[tokio::test]
async fn gzip_bomb_stops_at_the_limit() {
    let bomb = gzip(&vec![0; 64 * MEGABYTE]);
    assert!(bomb.len() < MEGABYTE);
    let error = error_for(move || Reply::new(200, &[("Content-Encoding", "gzip")], &bomb)).await;
    assert_eq!(error, FetchError::TooLarge(MEGABYTE));
}

#[tokio::test]
async fn brotli_bomb_stops_at_the_limit() {
    let bomb = brotli(&vec![0; 64 * MEGABYTE]);
    let error = error_for(move || Reply::new(200, &[("Content-Encoding", "br")], &bomb)).await;
    assert_eq!(error, FetchError::TooLarge(MEGABYTE));
}

#[tokio::test]
async fn body_at_the_limit_passes_and_one_byte_more_fails() {
    let server = Server::start(|path, _| {
        Reply::new(200, &[], vec![b' '; if path == "/at" { MEGABYTE } else { MEGABYTE + 1 }])
    })
    .await;
    assert_eq!(get(&server.url("/at")).await.expect("a body").bytes.len(), MEGABYTE);
    assert_eq!(get(&server.url("/past")).await.expect_err("too large"), FetchError::TooLarge(MEGABYTE));
}

#[tokio::test]
async fn announced_200_megabytes_are_not_read() {
    let server = Server::start(|_, _| Reply::Forever {
        head: head(200, &[("Content-Length", "209715200")]),
        chunk: vec![0; 64 * 1024],
        pause: Duration::ZERO,
    })
    .await;
    assert_eq!(get(&server.url("/")).await.expect_err("too large"), FetchError::TooLarge(MEGABYTE));
    assert!(server.sent() < 50 * MEGABYTE, "{}", server.sent());
}

#[tokio::test]
async fn unannounced_200_megabytes_stop_at_the_limit() {
    let server = Server::start(|_, _| Reply::Forever {
        head: head(200, &[]),
        chunk: vec![0; 64 * 1024],
        pause: Duration::ZERO,
    })
    .await;
    assert_eq!(get(&server.url("/")).await.expect_err("too large"), FetchError::TooLarge(MEGABYTE));
    assert!(server.sent() < 50 * MEGABYTE, "{}", server.sent());
}

#[tokio::test]
async fn slow_body_without_end_times_out() {
    let server = Server::start(|_, _| Reply::Forever {
        head: head(200, &[]),
        chunk: b"<".to_vec(),
        pause: Duration::from_millis(20),
    })
    .await;
    assert_eq!(get_with(&impatient(), &server.url("/")).await.expect_err("endless"), FetchError::Timeout);
}

#[tokio::test]
async fn slow_headers_without_end_time_out() {
    let server = Server::start(|_, _| Reply::Forever {
        head: b"HTTP/1.1 200 OK\r\n".to_vec(),
        chunk: b"X-A: b\r\n".to_vec(),
        pause: Duration::from_millis(20),
    })
    .await;
    assert_eq!(get_with(&impatient(), &server.url("/")).await.expect_err("endless"), FetchError::Timeout);
}

#[tokio::test]
async fn fast_headers_without_end_are_refused() {
    let server = Server::start(|_, _| Reply::Forever {
        head: b"HTTP/1.1 200 OK\r\n".to_vec(),
        chunk: [b"X-A: ", &[b'a'; 8192][..], b"\r\n"].concat(),
        pause: Duration::ZERO,
    })
    .await;
    assert_eq!(get(&server.url("/")).await.expect_err("endless").class(), "invalid_response");
    assert!(server.sent() < 50 * MEGABYTE, "{}", server.sent());
}

#[tokio::test]
async fn body_cut_short_is_interrupted() {
    let error =
        error_for(|| Reply::Once([&head(200, &[("Content-Length", "1000")])[..], b"<rss>"].concat())).await;
    assert_eq!(error.class(), "interrupted");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    assert_eq!(
        error_for(|| Reply::Once(b"220 ftp.example ready\r\n".to_vec())).await.class(),
        "invalid_response"
    );
}

#[tokio::test]
async fn temporary_redirect_is_followed_and_not_remembered() {
    let server = Server::start(|path, _| match path {
        "/old" => Reply::redirect(302, "/new"),
        _ => Reply::new(200, &[], FEED),
    })
    .await;
    let body = get(&server.url("/old")).await.expect("a body");
    assert_eq!(body.final_url, server.url("/new"));
    assert_eq!(body.moved_permanently_to, None);
}

#[tokio::test]
async fn permanent_redirects_are_remembered_up_to_the_first_temporary_one() {
    let server = Server::start(|path, _| match path {
        "/1" => Reply::redirect(301, "/2"),
        "/2" => Reply::redirect(308, "/3#top"),
        "/3" => Reply::redirect(307, "/4"),
        "/4" => Reply::redirect(301, "/5"),
        _ => Reply::new(200, &[], FEED),
    })
    .await;
    let body = get(&server.url("/1")).await.expect("a body");
    assert_eq!(body.final_url, server.url("/5"));
    assert_eq!(body.moved_permanently_to, Some(server.url("/3")));
}

#[tokio::test]
async fn redirect_loop_is_seen() {
    let server = Server::start(|path, _| Reply::redirect(302, if path == "/a" { "/b" } else { "/a" })).await;
    assert_eq!(get(&server.url("/a")).await.expect_err("a loop"), FetchError::RedirectLoop);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn five_redirects_pass_and_six_fail() {
    let server = Server::start(|path, _| match path[1..].parse::<u32>().expect("a number") {
        0 => Reply::new(200, &[], FEED),
        left => Reply::redirect(302, &format!("/{}", left - 1)),
    })
    .await;
    assert!(get(&server.url("/5")).await.is_ok());
    assert_eq!(get(&server.url("/6")).await.expect_err("too many"), FetchError::RedirectLoop);
}

#[tokio::test]
async fn redirect_without_target_fails() {
    assert_eq!(error_for(|| Reply::new(302, &[], "")).await, FetchError::InvalidRedirect);
    assert_eq!(error_for(|| Reply::redirect(302, "http://[")).await, FetchError::InvalidRedirect);
}

#[tokio::test]
async fn redirect_leaves_http_for_nothing_else() {
    for target in ["file:///etc/passwd", "ftp://example.eu/", "data:,x", "http://user:secret@example.eu/"] {
        let error = error_for(move || Reply::redirect(302, target)).await;
        assert_eq!(error.class(), "invalid_url", "{target}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn private_addresses_are_refused_before_any_request() {
    let server = Server::start(|_, _| Reply::new(200, &[], FEED)).await;
    let fetcher = fetcher(FetchPolicy { allow_private: false, ..policy() });
    let port = server.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
    ] {
        let url = Url::parse(&format!("http://{host}:{port}/")).expect("a URL");
        assert_eq!(
            get_with(&fetcher, &url).await.expect_err("private"),
            FetchError::PrivateAddress,
            "{host}"
        );
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn redirects_to_private_addresses_are_refused() {
    // The first server's own address stands for a public one.
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
    let private = Server::start(|_, _| Reply::new(200, &[], FEED)).await;
    let port = private.port();
    let server = Server::start_on(PUBLIC, move |path, _| {
        Reply::redirect(302, &format!("http://{}:{port}/", &path[1..]))
    })
    .await;
    let fetcher =
        Fetcher::with_address_rule(policy(), |address| address == IpAddr::V4(PUBLIC)).expect("a client");
    for host in ["127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "[::1]"] {
        let error = get_with(&fetcher, &server.url(&format!("/{host}"))).await.expect_err("private");
        assert_eq!(error, FetchError::PrivateAddress, "{host}");
    }
    assert_eq!(server.requests().len(), 5);
    assert!(private.requests().is_empty());
}

#[tokio::test]
async fn urls_that_are_never_fetched() {
    let fetcher = fetcher(FetchPolicy { allow_private: false, ..policy() });
    let long = format!("http://example.eu/{}", "a".repeat(2_048));
    for url in [
        "file:///etc/passwd",
        "ftp://example.eu/",
        "http://user@example.eu/",
        "http://:pw@example.eu/",
        "data:,x",
        &long,
    ] {
        let error = get_with(&fetcher, &Url::parse(url).expect("a URL")).await.expect_err("refused");
        assert_eq!(error.class(), "invalid_url", "{url}");
    }
}

#[tokio::test]
async fn unresolvable_names_and_closed_ports() {
    let url = Url::parse("http://no-such-host.invalid/").expect("a URL");
    assert_eq!(get(&url).await.expect_err("no such host"), FetchError::Dns);
    let closed =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let url = Url::parse(&format!("http://{closed}/")).expect("a URL");
    assert_eq!(get(&url).await.expect_err("closed"), FetchError::Refused);
}

#[tokio::test]
async fn plain_http_on_a_tls_port_fails_as_tls() {
    let server = Server::start(|_, _| Reply::Once(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    let mut url = server.url("/");
    url.set_scheme("https").expect("a scheme");
    // The server reads until an empty line that TLS never sends.
    let fetcher = impatient();
    let error = get_with(&fetcher, &url).await.expect_err("no TLS");
    assert!(matches!(error, FetchError::Tls | FetchError::Timeout), "{error:?}");
}

#[tokio::test]
async fn validators_are_sent_and_304_understood() {
    let server = Server::start(|_, request| {
        let request = request.to_lowercase();
        let known = request.contains("if-none-match: \"a1\"")
            && request.contains("if-modified-since: sun, 01 mar 2026");
        if known { Reply::Once(head(304, &[("ETag", "\"a1\"")])) } else { Reply::new(200, &[], FEED) }
    })
    .await;
    let validators = Conditional {
        etag: Some("\"a1\"".into()),
        last_modified: Some("Sun, 01 Mar 2026 12:00:00 GMT".into()),
    };
    let fetched = fetcher(policy()).fetch(&server.url("/"), &validators).await.expect("an answer");
    assert!(matches!(fetched, Fetched::NotModified));
    assert!(get(&server.url("/")).await.is_ok());
}

#[tokio::test]
async fn an_unasked_304_is_an_error() {
    assert_eq!(error_for(|| Reply::Once(head(304, &[]))).await.class(), "http_status_304");
}

#[tokio::test]
async fn retry_after_in_seconds() {
    let error = error_for(|| Reply::new(429, &[("Retry-After", "120")], "slow down")).await;
    assert_eq!(error.class(), "http_status_429");
    assert_eq!(error.retry_after(), Some(RetryAfter::Delay(Duration::from_secs(120))));
}

#[tokio::test]
async fn retry_after_as_a_date() {
    let error = error_for(|| Reply::new(503, &[("Retry-After", "Sun, 01 Mar 2026 12:00:00 GMT")], "")).await;
    let at = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().expect("an instant");
    assert_eq!(error.retry_after(), Some(RetryAfter::At(at)));
}

#[tokio::test]
async fn error_statuses_are_errors() {
    for status in [204, 206, 400, 404, 410, 500, 502] {
        let error = error_for(move || Reply::new(status, &[("Retry-After", "120")], "")).await;
        assert_eq!(error, FetchError::HttpStatus { status, retry_after: None });
    }
}

#[tokio::test]
async fn one_request_a_host_at_a_time() {
    let server = Server::start(|_, _| Reply::new(200, &[], FEED)).await;
    let fetcher = fetcher(policy());
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let (fetcher, url) = (fetcher.clone(), server.url(&format!("/{n}")));
            tokio::spawn(async move { get_with(&fetcher, &url).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("a body");
    }
    assert_eq!(server.requests().len(), 8);
    assert_eq!(server.most_open(), 1);
}

#[tokio::test]
async fn local_files_when_private_sources_are_allowed() {
    let path = std::env::temp_dir().join(format!("euhub-feed-{}.xml", std::process::id()));
    std::fs::write(&path, FEED).expect("a file");
    let url = Url::from_file_path(&path).expect("a URL");
    let body = get(&url).await.expect("a body");
    assert_eq!(body.bytes, FEED);

    let validators = Conditional { etag: body.etag, last_modified: None };
    assert!(matches!(fetcher(policy()).fetch(&url, &validators).await, Ok(Fetched::NotModified)));
    std::fs::write(&path, vec![b' '; MEGABYTE + 1]).expect("a file");
    let error = fetcher(policy()).fetch(&url, &validators).await.expect_err("too large");
    assert_eq!(error, FetchError::TooLarge(MEGABYTE));
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(get(&url).await.expect_err("gone").class(), "file");
    assert_eq!(
        get(&Url::parse("file:///dev/zero").expect("a URL")).await.expect_err("a device").class(),
        "invalid_url"
    );
}
