//! Whom we trust to be a registry.
//!
//! rustls with ring: what the data plane links anyway, so there is one cryptography in the program. The configuration
//! is handed to the HTTP client whole, so it depends on no process-wide choice. Authorities are the system's: what the
//! operator adds there counts, what the distribution withdraws is withdrawn, and an own list would be older with each
//! day since the build.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Reads a file of certificates.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it".to_owned()),
        Ok(found) => Ok(found),
        Err(e) => Err(e.to_string()),
    }
}

/// Returns a client's configuration that trusts the system's authorities and `own`.
pub(super) fn config(own: Vec<CertificateDer<'static>>) -> Result<ClientConfig, String> {
    let mut roots = system().clone();
    for certificate in own {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("there are none: install the package ca-certificates".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Read once: a system's list is some 140 certificates, and changes with its updates.
fn system() -> &'static RootCertStore {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // One that is broken is no reason to do without the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(super::certificates(b"").is_err());
        assert!(super::certificates(b"-----BEGIN CERTIFICATE-----\nnot base64\n").is_err());
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let junk = super::certificates(pem).unwrap();
        assert!(super::config(junk).is_err());
    }
}
