//! Certificates from files, fresh from there when they change.

use std::{
    fmt,
    io::Error as IoError,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};
use x509_cert::{Certificate, der::Decode, time::Time};
use xxhash_rust::xxh3::Xxh3;

/// Where a listener's certificate is; all in PEM form.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and after it those that lead to a root.
    pub cert: PathBuf,
    /// Its private key, without a passphrase.
    pub key: PathBuf,
    /// Authorities whose certificates clients must show (mTLS); none asks for none.
    pub client_ca: Option<PathBuf>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there, or not for this user.
    #[error("cannot read {}: {source}; it must be there, and readable by the user that runs this", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: IoError,
    },
    /// A file without what it is for.
    #[error("{} holds no {what} in PEM form", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A certificate whose time is over.
    #[error("the certificate in {} expired on {expired}; renew it", path.display())]
    Expired {
        /// Which.
        path: PathBuf,
        /// When, in UTC.
        expired: String,
    },
    /// A certificate or key that TLS has no use for.
    #[error("cannot use {}: {reason}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A certificate in use. Clones share it, reloads included.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    current: RwLock<Current>,
    /// Fingerprint of the files when they were last looked at.
    seen: Mutex<u128>,
}

struct Current {
    /// For HTTP/2 and HTTP/1.1.
    both: Arc<ServerConfig>,
    /// For HTTP/2 alone.
    http2: Arc<ServerConfig>,
    expires: Duration,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. [`super::serve`] keeps looking at them.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let current = RwLock::new(contents.load(&files)?);
        let seen = Mutex::new(contents.fingerprint());
        Ok(Self(Arc::new(Shared { files, current, seen })))
    }

    /// When the first certificate of the chain expires, as time since 1970.
    pub fn expires(&self) -> Duration {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).expires
    }

    pub(super) fn acceptor(&self, http2_only: bool) -> TlsAcceptor {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(if http2_only { &current.http2 } else { &current.both }))
    }

    /// Looks at the files forever.
    pub(super) async fn keep_fresh(&self, period: Duration) {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let tls = self.clone();
            // It fails only when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    /// Takes what the files hold if they have changed and it is any good; connections that are open keep what they have.
    ///
    /// By content: a time stamp may stay the same, and the symbolic links of Kubernetes' secrets change as a whole.
    fn look(&self) {
        let Shared { files, current, seen } = &*self.0;
        let contents = Contents::read(files);
        let fingerprint = match &contents {
            Ok(contents) => contents.fingerprint(),
            Err(error) => xxhash_rust::xxh3::xxh3_128(error.to_string().as_bytes()),
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *seen, fingerprint) == fingerprint {
            return;
        }
        match contents.and_then(|contents| contents.load(files)) {
            Ok(loaded) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                tracing::info!(certificate = %files.cert.display(), "TLS certificate reloaded");
            }
            Err(error) => {
                tracing::warn!(%error, "the new TLS certificate is no good; the old one stays in use");
            }
        }
    }
}

/// What the files hold.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
        };
        Ok(Self {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        for part in [&self.cert, &self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
        hash.digest128()
    }

    fn load(&self, files: &TlsFiles) -> Result<Current, TlsError> {
        let chain = certificates(&self.cert, &files.cert)?;
        let expires = expiry(&chain, &files.cert)?;
        // Whatever is wrong with a key, nothing of it may show.
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Missing {
            path: files.key.clone(),
            what: "private key without a passphrase",
        })?;
        warn_if_open(&files.key);

        let provider = Arc::new(ring::default_provider());
        let clients = match (&self.client_ca, &files.client_ca) {
            (Some(pem), Some(path)) => client_verifier(pem, path, &provider)?,
            _ => Arc::new(NoClientAuth),
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_client_cert_verifier(clients))
            .and_then(|builder| builder.with_single_cert(chain, key));
        let mut both = config.map_err(|error| unusable(&files.key, key_fault(&error, &files.cert)))?;
        both.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http2 = both.clone();
        http2.alpn_protocols.truncate(1);
        Ok(Current { both: Arc::new(both), http2: Arc::new(http2), expires })
    }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error.to_string()))?;
    if found.is_empty() {
        return Err(TlsError::Missing { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

/// When the first of a chain expires. Only the certificate itself must still be good: chains may carry old roots for old clients.
fn expiry(chain: &[CertificateDer<'_>], path: &Path) -> Result<Duration, TlsError> {
    let times: Vec<Time> = chain
        .iter()
        .map(|certificate| Certificate::from_der(certificate))
        .map(|parsed| parsed.map(|certificate| certificate.tbs_certificate().validity().not_after))
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error.to_string()))?;
    if let Some(own) = times.first()
        && own.to_unix_duration().as_secs() < UnixTime::now().as_secs()
    {
        return Err(TlsError::Expired { path: path.to_owned(), expired: own.to_string() });
    }
    Ok(times.iter().map(|time| time.to_unix_duration()).min().unwrap_or_default())
}

fn client_verifier(
    pem: &[u8],
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem, path)? {
        roots.add(authority).map_err(|error| unusable(path, error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(path, error.to_string()))
}

fn key_fault(error: &rustls::Error, cert: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key does not belong to the certificate in {}", cert.display())
        }
        other => other.to_string(),
    }
}

fn unusable(path: &Path, reason: String) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), reason }
}

/// A key that any user of the machine can read is not private.
fn warn_if_open(key: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(key) {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o007 != 0 {
            tracing::warn!(key = %key.display(), "every user can read or write the private key: chmod o-rwx it");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tracing::{Event, Metadata, Subscriber, field::Visit, span};

    use super::*;

    /// What was logged, as text.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("euhub_edge")
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut log = self.0.lock().unwrap();
            *log += event.metadata().level().as_str();
            event.record(&mut Fields(&mut log));
            log.push('\n');
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    struct Fields<'a>(&'a mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            *self.0 += &format!(" {field}={value:?}");
        }
    }

    #[test]
    fn a_bad_change_is_said_once_and_a_good_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
            client_ca: None,
        };
        let write = || {
            let made = rcgen::generate_simple_self_signed(["test".to_owned()]).unwrap();
            fs::write(&files.cert, made.cert.pem()).unwrap();
            fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
            made.signing_key.serialize_pem()
        };
        let mut keys = vec![write()];
        // Out of others' sight, so that this is no cause for a warning yet.
        private(&files.key, 0o640);
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let tls = Tls::load(files.clone()).unwrap();
            tls.look();
            assert_eq!(*log.0.lock().unwrap(), "");

            fs::write(&files.cert, "nothing").unwrap();
            (0..5).for_each(|_| tls.look());
            keys.push(write());
            (0..5).for_each(|_| tls.look());
            private(&files.key, 0o644);
            keys.push(write());
            tls.look();
        });
        let log = log.0.lock().unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 4, "{log}");
        assert!(lines[0].starts_with("WARN") && lines[0].contains("cert.pem holds no certificate"), "{log}");
        assert!(lines[1].starts_with("INFO") && lines[1].contains("reloaded"), "{log}");
        assert!(lines[2].starts_with("WARN") && lines[2].contains("chmod"), "{log}");
        assert!(lines[3].starts_with("INFO"), "{log}");
        let secrets = keys.iter().flat_map(|key| key.lines()).filter(|line| !line.starts_with("--"));
        assert!(secrets.into_iter().all(|line| !log.contains(line)));
    }

    fn private(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}
