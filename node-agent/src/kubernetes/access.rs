//! How the API server is reached: URL, credentials, and a connection that notices when the other end is gone. Made anew
//! after each failure, so that a rotated token, certificate or CA is read again. Used by `watch`, `list` and `report`.

use super::failure::{Failure, FailureKind};
use crate::settings::Settings;
use axum::http::Uri;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

/// Where kubelet puts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Until TCP stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end vanished without a word (a node that lost power, a firewall that forgot it) is noticed
/// after 15 + 3 x 5 s: the kernel asks, and nobody answers.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// The same while something that was sent is not acknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections for a condition or an Event are rare: they are not kept.
const POOL_IDLE: Duration = Duration::from_secs(10);
/// The largest read at a time. More makes nothing faster, and the allocator never gives it back.
const READ_BUFFER: usize = 64 * 1024;

/// Where the credentials are. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Access {
    kubeconfig: Option<PathBuf>,
    api_server: Option<Uri>,
    /// Of the last connection, for messages.
    url: Arc<Mutex<String>>,
}

impl Access {
    /// `None` where nothing says which API server.
    pub(super) fn from_settings(settings: &Settings) -> Option<Access> {
        let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            || settings.api_server.is_some() && Path::new(SERVICE_ACCOUNT).exists();
        (settings.kubeconfig.is_some() || in_cluster).then(|| Access {
            kubeconfig: settings.kubeconfig.clone(),
            api_server: settings.api_server.clone(),
            url: Arc::default(),
        })
    }

    /// The server's URL as far as it is known; empty before the credentials could be read.
    pub(super) fn url(&self) -> String {
        let known = self.url.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Reads the credentials and makes a client. Nothing is sent yet.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let mut config = self.read().await.map_err(|reason| {
            let source = match &self.kubeconfig {
                Some(path) => format!("kubeconfig {}", path.display()),
                None => format!("service account in {SERVICE_ACCOUNT}"),
            };
            Failure::new(FailureKind::Access, format!("{source}: {reason}"))
        })?;
        if let Some(url) = &self.api_server {
            config.cluster_url = url.clone();
        }
        let url = config.cluster_url.to_string();
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) =
            url.trim_end_matches('/').to_owned();
        make_client(&config).map_err(|error| Failure::of(&error))
    }

    async fn read(&self) -> Result<Config, String> {
        match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| error.to_string())
            }
            // The URL of the Service's name is a placeholder then.
            None if self.api_server.is_some() => {
                Config::incluster_dns().map_err(|error| error.to_string())
            }
            None => Config::incluster_env().map_err(|error| error.to_string()),
        }
    }
}

/// kube's own client without its log lines and silent retries (failures are told by us), and with keepalive.
fn make_client(config: &Config) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http = HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1)
        .http1_max_buf_size(READ_BUFFER)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
