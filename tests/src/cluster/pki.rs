//! Certificates, tokens and kubeconfigs of one cluster.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use std::net::IpAddr;

/// A key and what goes with it, as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate (of a service account key: the public key).
    pub certificate: String,
    /// PKCS#8.
    pub key: String,
}

/// The cluster's authority; one for servers, clients and the front proxy.
#[derive(Debug)]
pub struct Authority {
    /// Its own certificate.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A fresh one. Elliptic curves: RSA takes seconds.
    pub fn new() -> Result<Authority> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "slash32-e2e");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// For a server with these names and addresses, or for a client with an organisation (its group).
    pub fn issue(&self, name: &str, group: Option<&str>, hosts: &[&str]) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().context("name in a certificate")?),
            });
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

/// What signs the tokens of service accounts.
pub fn service_account_key() -> Result<Pair> {
    let key = KeyPair::generate()?;
    Ok(Pair {
        certificate: key.public_key_pem(),
        key: key.serialize_pem(),
    })
}

/// A user of the API by token: name, and groups.
#[derive(Debug, Clone)]
pub struct User {
    /// As RBAC knows it.
    pub name: String,
    /// Comma between them; empty for none.
    pub groups: String,
}

impl User {
    /// From what stands in the code.
    pub fn new(name: &str, groups: &str) -> User {
        User {
            name: name.into(),
            groups: groups.into(),
        }
    }

    /// The token: the name will do, in a cluster that nobody else reaches.
    pub fn token(&self) -> String {
        format!("token-{}", self.name.replace(':', "-"))
    }
}

/// The API server's file of tokens.
pub fn render_tokens(users: &[User]) -> String {
    users
        .iter()
        .map(|user| {
            format!(
                "{},{},{},\"{}\"\n",
                user.token(),
                user.name,
                user.name,
                user.groups
            )
        })
        .collect()
}

/// A kubeconfig with one user; `authority` is the whole path of the authority's certificate.
pub fn render_kubeconfig(server: &str, authority: &str, user: &User) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: e2e, cluster: {{server: \"{server}\", certificate-authority: {authority}}}}}]
users: [{{name: user, user: {{token: \"{}\"}}}}]
contexts: [{{name: e2e, context: {{cluster: e2e, user: user}}}}]
current-context: e2e
",
        user.token()
    )
}
