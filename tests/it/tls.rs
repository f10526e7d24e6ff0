//! TLS on both ports of real processes: the edge for anybody, the core for those who show a certificate.

use std::path::{Path, PathBuf};

use axum::http::Version;
use euhub::proto::GetStatusRequest;
use euhub::proto::admin_service_client::AdminServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::embedded::scratch;
use crate::hub::Hub;
use crate::program::{Running, client, euhub, euhub_on, free_address, run, run_err, wait_for};

/// An authority, and the pairs that it has signed, as files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder: folder.to_owned() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }

    /// Writes `{name}.pem` and `{name}-key.pem` for a host.
    fn sign(&self, name: &str, host: &str) {
        let params = CertificateParams::new([host.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn the_edge_speaks_tls_and_reaches_a_core_that_asks_for_certificates() {
    let (hub, folder) = (Hub::seeded().await, scratch());
    let authority = Authority::new(folder.path());
    authority.sign("server", "localhost");
    authority.sign("client", "edge");
    let (grpc, rest) = (free_address(), free_address());
    let mut command = euhub_on(&hub, folder.path());
    command
        .args(["serve", "--grpc-addr", &grpc.to_string()])
        .env("EUHUB_TLS_CERT", authority.path("server.pem"))
        .env("EUHUB_TLS_KEY", authority.path("server-key.pem"))
        .env("EUHUB_TLS_CLIENT_CA", authority.path("ca.pem"));
    let mut core = Running::start(command, folder.path());
    let probe = |with_certificate: bool| {
        let mut probe = euhub(folder.path());
        probe
            .args(["healthcheck", "--url", &format!("https://{grpc}")])
            .env("EUHUB_CORE_CA", authority.path("ca.pem"));
        if with_certificate {
            probe
                .env("EUHUB_CORE_CERT", authority.path("client.pem"))
                .env("EUHUB_CORE_KEY", authority.path("client-key.pem"));
        }
        probe
    };
    wait_for("a core over TLS", async || {
        assert!(core.is_running(), "{}", core.log());
        run(probe(true)).await.status.success()
    })
    .await;
    run_err(probe(false)).await;

    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.read("ca.pem")));
    let identity = Identity::from_pem(authority.read("client.pem"), authority.read("client-key.pem"));
    let endpoint = Endpoint::from_shared(format!("https://{grpc}")).unwrap();
    let channel = endpoint.tls_config(tls.identity(identity)).unwrap().connect().await.unwrap();
    AdminServiceClient::new(channel).get_status(GetStatusRequest {}).await.unwrap();

    let mut command = euhub(folder.path());
    command
        .args(["edge", "--edge-addr", &rest.to_string()])
        .env("EUHUB_CORE_URL", format!("https://localhost:{}", grpc.port()))
        .env("EUHUB_CORE_CA", authority.path("ca.pem"))
        .env("EUHUB_CORE_CERT", authority.path("client.pem"))
        .env("EUHUB_CORE_KEY", authority.path("client-key.pem"))
        .env("EUHUB_TLS_CERT", authority.path("server.pem"))
        .env("EUHUB_TLS_KEY", authority.path("server-key.pem"));
    let mut edge = Running::start(command, folder.path());
    // A provider for TLS.
    drop(client());
    let trusting = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority.read("ca.pem")).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/api/v1/keywords", rest.port());
    wait_for("an edge over TLS", async || {
        assert!(edge.is_running(), "{}", edge.log());
        trusting.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let answer = trusting.get(&url).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert!(answer.headers().contains_key("strict-transport-security"));
    client().get(format!("http://{rest}/api/v1/keywords")).send().await.unwrap_err();
    edge.stop().await;
    core.stop().await;
}

#[tokio::test]
async fn settings_that_do_not_fit_are_refused_at_the_start() {
    let (hub, folder) = (Hub::empty().await, scratch());
    let authority = Authority::new(folder.path());
    authority.sign("server", "localhost");
    authority.sign("other", "localhost");
    let (cert, key, other) =
        (authority.path("server.pem"), authority.path("server-key.pem"), authority.path("other-key.pem"));
    let missing = authority.path("missing.pem");
    for (settings, named) in [
        (vec![("EUHUB_TLS_CERT", &cert)], "tls_key"),
        (vec![("EUHUB_TLS_KEY", &key)], "tls_cert"),
        (vec![("EUHUB_TLS_CLIENT_CA", &cert)], "tls_client_ca"),
        (vec![("EUHUB_TLS_CERT", &missing), ("EUHUB_TLS_KEY", &key)], "missing.pem"),
        (vec![("EUHUB_TLS_CERT", &cert), ("EUHUB_TLS_KEY", &other)], "other-key.pem"),
        (vec![("EUHUB_TLS_CERT", &cert), ("EUHUB_TLS_KEY", &cert)], "server.pem"),
    ] {
        let mut command = euhub_on(&hub, folder.path());
        command.args(["serve", "--grpc-addr", &free_address().to_string()]).envs(settings);
        let error = run_err(command).await;
        assert!(error.contains(named) && !error.contains("PRIVATE"), "{named}: {error}");
    }
}
