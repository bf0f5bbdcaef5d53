//! A certificate and its key in PEM files (RFC 7468), read again when they change. What cannot be used then is said, and the one
//! before is shown on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shown, certified};

/// Why files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not give one.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// Not a chain of certificates.
    #[error("{path} holds no certificate: it takes PEM, the server's own first, then those that lead to its root", path = path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Not a key.
    #[error("{path} holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)", path = path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// They are of no use together.
    #[error("{certificate} and {key} cannot be used together", certificate = certificate.display(), key = key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
}

/// The pair of two files, looked at every `period` until `stop`.
///
/// # Errors
/// When they cannot be used now.
pub fn of_files(certificate: &Path, key: &Path, period: Duration, stop: CancellationToken) -> Result<Shown, FileError> {
    let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
    let mut content = files.content()?;
    let (show, shown) = watch::channel(files.pair(&content)?);
    tokio::spawn(async move {
        // The last that was looked at; one that is of no use is said once.
        let mut last = None;
        while stop.run_until_cancelled(tokio::time::sleep(period)).await.is_some() && !show.is_closed() {
            let looked = files.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || looked.content()).await else { return };
            let pair = match now {
                Ok(now) if now == content => continue,
                Ok(now) => {
                    content = now;
                    files.pair(&content)
                }
                Err(error) => Err(error),
            };
            match pair {
                Ok(pair) => {
                    tracing::info!(file = %files.certificate.display(), "the certificate for HTTP has changed");
                    last = None;
                    show.send_replace(pair);
                }
                Err(error) => {
                    let said = Some(error.to_string());
                    if last != said {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(
                            error,
                            "the certificate for HTTP cannot be used any more: the one before is shown on"
                        );
                    }
                    last = said;
                }
            }
        }
    });
    Ok(shown)
}

/// Bytes of the certificate's and the key's file.
type Content = (Vec<u8>, Vec<u8>);

#[derive(Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn content(&self) -> Result<Content, FileError> {
        let read = |path: &Path| fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source });
        Ok((read(&self.certificate)?, read(&self.key)?))
    }

    fn pair(&self, (chain, key): &Content) -> Result<Arc<CertifiedKey>, FileError> {
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| FileError::NoCertificate { path: self.certificate.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| FileError::NoKey { path: self.key.clone() })?;
        certified(chain, key).map_err(|source| FileError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }
}
