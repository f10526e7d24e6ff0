//! Certificates, and who may come in.

use std::{fs, io, path::Path};

use euhub_edge::listen::{Tls, TlsError, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Pair {
    cert: String,
    key: String,
}

impl Pair {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().unwrap()
    }
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

impl Authority {
    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(["test".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn pair(&self) -> Pair {
        self.sign(|_| ())
    }
}

fn write(folder: &TempDir, pair: &Pair) -> TlsFiles {
    let files = TlsFiles {
        cert: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
        client_ca: None,
    };
    fs::write(&files.cert, &pair.cert).unwrap();
    fs::write(&files.key, &pair.key).unwrap();
    files
}

async fn start_tls(files: TlsFiles, config: ListenConfig) -> Server {
    start(ListenConfig { tls: Some(Tls::load(files).unwrap()), ..config }).await
}

/// A handshake, as a client that trusts the authority alone.
async fn secure(
    server: &Server,
    trusted: &Authority,
    alpn: &[&str],
    own: Option<&Pair>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(own.chain(), key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    within(connector.connect("test".try_into().unwrap(), connect(server).await)).await
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates().unwrap().to_vec()
}

#[tokio::test]
async fn http_2_and_http_1_are_chosen_by_alpn() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let server = start_tls(write(&folder, &authority.pair()), patient()).await;

    let stream = secure(&server, &authority, &["h2", "http/1.1"], None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut client, _task) = http2(stream).await;
    assert_eq!(text(get2(&mut client, "/").await.unwrap()).await, "hello");
    assert_eq!(text(get2(&mut client, "/large").await.unwrap()).await.len(), 5_000_000);

    for alpn in [["http/1.1"].as_slice(), &[]] {
        let mut stream = secure(&server, &authority, alpn, None).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), alpn.first().map(|name| name.as_bytes()));
        ask(&mut stream, "/").await;
        answer(&mut stream, "hello").await;
    }
}

#[tokio::test]
async fn a_listener_for_http_2_alone_offers_no_other() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let files = write(&folder, &authority.pair());
    let server = start_tls(files, ListenConfig { http2_only: true, ..patient() }).await;
    let stream = secure(&server, &authority, &["http/1.1", "h2"], None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    assert!(secure(&server, &authority, &["http/1.1"], None).await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_restart() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let (old, new, newer) = (authority.pair(), authority.pair(), authority.pair());
    let files = write(&folder, &old);
    let server = start_tls(files.clone(), patient()).await;
    let mut before = secure(&server, &authority, &[], None).await.unwrap();
    assert_eq!(shown(&before), old.chain());

    write(&folder, &new);
    within(async { while shown(&secure(&server, &authority, &[], None).await.unwrap()) != new.chain() {} })
        .await;
    ask(&mut before, "/").await;
    answer(&mut before, "hello").await;

    // Broken, alien, empty, missing: looked at many times over, and never taken.
    let wrong: [&dyn Fn(); 4] = [
        &|| fs::write(&files.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap(),
        &|| fs::write(&files.cert, &old.cert).unwrap(),
        &|| fs::write(&files.key, "").unwrap(),
        &|| fs::remove_file(&files.key).unwrap(),
    ];
    for spoil in wrong {
        spoil();
        sleep(SHORT).await;
        let stream = secure(&server, &authority, &[], None).await.unwrap();
        assert_eq!(shown(&stream), new.chain());
    }
    write(&folder, &newer);
    within(async { while shown(&secure(&server, &authority, &[], None).await.unwrap()) != newer.chain() {} })
        .await;
}

#[tokio::test]
async fn with_an_authority_for_clients_only_its_clients_come_in() {
    let (servers, clients, folder) = (authority(), authority(), TempDir::new().unwrap());
    let client_ca = folder.path().join("clients.pem");
    fs::write(&client_ca, &clients.pem).unwrap();
    let files = TlsFiles { client_ca: Some(client_ca), ..write(&folder, &servers.pair()) };
    let server = start_tls(files, ListenConfig { http2_only: true, ..patient() }).await;

    let expired = clients.sign(|params| params.not_after = date_time_ymd(2020, 1, 1));
    for own in [None, Some(&servers.pair()), Some(&expired)] {
        // In TLS 1.3 the client's side is done before the server has looked.
        if let Ok(mut stream) = secure(&server, &servers, &["h2"], own).await {
            let mut answer = Vec::new();
            assert!(within(stream.read_to_end(&mut answer)).await.is_err(), "{answer:?}");
        }
    }
    let stream = secure(&server, &servers, &["h2"], Some(&clients.pair())).await.unwrap();
    let (mut client, _task) = http2(stream).await;
    assert_eq!(text(get2(&mut client, "/").await.unwrap()).await, "hello");
}

#[tokio::test]
async fn handshakes_that_go_wrong_end_alone() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let server = start_tls(write(&folder, &authority.pair()), patient()).await;
    let mut plain = connect(&server).await;
    ask(&mut plain, "/").await;
    assert!(!rest(&mut plain).await.contains("hello"));
    let mut half = connect(&server).await;
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    drop(half);
    let distrustful = self::authority();
    assert!(secure(&server, &distrustful, &[], None).await.is_err());

    let mut stream = secure(&server, &authority, &[], None).await.unwrap();
    ask(&mut stream, "/").await;
    answer(&mut stream, "hello").await;
}

#[tokio::test]
async fn silence_before_and_after_the_handshake_is_cut_off() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let config = ListenConfig { header_timeout: 5 * SHORT, ..patient() };
    let server = start_tls(write(&folder, &authority.pair()), config).await;
    let mut silent = connect(&server).await;
    let mut secured = secure(&server, &authority, &["h2"], None).await.unwrap();
    rest(&mut silent).await;
    rest(&mut secured).await;
    until(|| server.connections.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off_behind_tls_too() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let config = ListenConfig { write_timeout: SHORT, ..patient() };
    let server = start_tls(write(&folder, &authority.pair()), config).await;
    let mut stream = secure(&server, &authority, &[], None).await.unwrap();
    ask(&mut stream, "/endless").await;
    stream.flush().await.unwrap();
    until(|| server.connections.open() == 0).await;
}

#[tokio::test]
async fn shutdown_says_goodbye_in_tls_and_waits_for_no_handshake() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let server = start_tls(write(&folder, &authority.pair()), patient()).await;
    let _silent = connect(&server).await;
    let mut stream = secure(&server, &authority, &[], None).await.unwrap();
    ask(&mut stream, "/").await;
    answer(&mut stream, "hello").await;
    server.stop.cancel();
    // Without the goodbye this would be an error.
    assert_eq!(within(stream.read(&mut [0; 10])).await.unwrap(), 0);
    within(server.task).await.unwrap();
}

#[test]
fn what_cannot_be_used_is_said_at_the_start() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let good = authority.pair();
    let fault = |files: &TlsFiles| Tls::load(files.clone()).unwrap_err();
    let named = |path: &Path, text: &str| assert!(text.contains(&path.display().to_string()), "{text}");

    let files = write(&folder, &authority.sign(|params| params.not_after = date_time_ymd(2020, 1, 1)));
    let error = fault(&files);
    named(&files.cert, &error.to_string());
    assert!(matches!(&error, TlsError::Expired { expired, .. } if expired.starts_with("2020-01-01")));

    let files = write(&folder, &Pair { cert: good.cert.clone(), key: authority.pair().key });
    let error = fault(&files).to_string();
    named(&files.key, &error);
    assert!(error.contains("does not belong"), "{error}");

    let files = write(&folder, &Pair { cert: good.cert.clone(), key: good.cert.clone() });
    assert!(matches!(fault(&files), TlsError::Missing { path, .. } if path == files.key));
    let files = write(&folder, &Pair { cert: good.key.clone(), key: good.key.clone() });
    assert!(matches!(fault(&files), TlsError::Missing { path, .. } if path == files.cert));

    let files = write(&folder, &good);
    let absent = TlsFiles { key: folder.path().join("absent.pem"), ..files.clone() };
    named(&absent.key, &fault(&absent).to_string());
    let no_authority = TlsFiles { client_ca: Some(files.key.clone()), ..files.clone() };
    assert!(matches!(fault(&no_authority), TlsError::Missing { path, .. } if path == files.key));
    Tls::load(files).unwrap();
}

#[test]
fn the_first_expiry_of_the_chain_is_known_and_an_old_root_may_follow() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let mut pair = authority.sign(|params| params.not_after = date_time_ymd(2100, 1, 1));
    let load = |pair: &Pair| Tls::load(write(&folder, pair)).unwrap();
    assert_eq!(load(&pair).expires().as_secs(), 4_102_444_800);
    pair.cert += &authority.sign(|params| params.not_after = date_time_ymd(2020, 1, 1)).cert;
    assert_eq!(load(&pair).expires().as_secs(), 1_577_836_800);
}

#[test]
fn nothing_of_a_key_shows() {
    let (authority, folder) = (authority(), TempDir::new().unwrap());
    let pair = authority.pair();
    let secret = pair.key.lines().nth(1).unwrap();
    let tls = Tls::load(write(&folder, &pair)).unwrap();
    assert!(!format!("{tls:?}").contains(secret));
    // The key in the place of its first line, as an editor may leave it.
    let broken = pair.key.replace("-----BEGIN", "--BEGIN").replace("-----END", "--END");
    for key in [broken, pair.key.replace("\n-----END", "!\n-----END"), format!("-----BEGIN {secret}\n")] {
        let error = Tls::load(write(&folder, &Pair { cert: pair.cert.clone(), key })).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret[..20]), "{error:?}");
    }
}
