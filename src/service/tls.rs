//! TLS: a certificate chain and its key from PEM files, for the web server.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by those that vouch for it: PEM.
    pub certificate: PathBuf,
    /// Its private key: PEM.
    pub key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read {what} from {}: {source}", path.display())]
    Read {
        /// `a certificate` or `a private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not fit.
    #[error("the certificate {} and the key {} cannot be used: {source}", certificate.display(), key.display())]
    Unfit {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// What the server needs: TLS 1.2 and 1.3, without client certificates.
    pub(crate) fn load(&self) -> Result<ServerConfig, TlsError> {
        let Self { certificate, key } = self;
        let read = |what, path: &PathBuf| {
            let path = path.clone();
            move |source| TlsError::Read { what, path, source }
        };
        let chain = CertificateDer::pem_file_iter(certificate).map_err(read("a certificate", certificate))?;
        let chain: Result<Vec<_>, _> = chain.collect();
        let chain = chain.map_err(read("a certificate", certificate))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(read("a private key", key))?;
        let unfit = |source| TlsError::Unfit { certificate: certificate.clone(), key: key.clone(), source };
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
            .map_err(unfit)
    }
}
