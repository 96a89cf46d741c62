//! A real etcd and a real kube-apiserver on one machine of the lab, with its certificates, and plain HTTP to it by
//! `kubectl proxy`. No other part of Kubernetes: Nodes are what a test makes.

use crate::certificates::Certificates;
use crate::machine::{Machine, Outcome, Running, finish};
use crate::suite::Missing;
use crate::{http, wait};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// kube-apiserver takes seconds of two cores to start, and a busy machine has less.
const START: Duration = Duration::from_secs(120);
/// Where `kubectl proxy` listens.
const PROXY: &str = "127.0.0.1:8001";
/// Where the API server listens.
pub const PORT: u16 = 6443;

/// The folder of kube-apiserver, etcd and kubectl: SLASH32_K8S_TOOLS, which the Makefile sets.
pub fn tools() -> Result<PathBuf> {
    let folder = std::env::var_os("SLASH32_K8S_TOOLS")
        .map(PathBuf::from)
        .ok_or_else(|| Missing("SLASH32_K8S_TOOLS is not set: run 'make test'".into()))?;
    for program in ["kube-apiserver", "etcd", "kubectl"] {
        if !folder.join(program).is_file() {
            let path = folder.join(program);
            let text = format!("{} is missing: 'make k8s-tools' builds it", path.display());
            return Err(Missing(text).into());
        }
    }
    Ok(folder)
}

/// etcd, API server and proxy; they end when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    /// Where they run.
    pub machine: Machine,
    /// Of the cluster: `ca`, `server`, `admin` (system:masters), `account` (signs tokens).
    pub certificates: Certificates,
    /// Its address on the lab's link.
    address: String,
    folder: PathBuf,
    etcd: Option<Running>,
    server: Option<Running>,
    proxy: Option<Running>,
}

impl ApiServer {
    /// Starts all of it on `machine`, which holds `address`. Data is below /run, in memory.
    pub fn start(machine: &Machine, address: &str) -> Result<ApiServer> {
        let folder = Path::new("/run/api").join(&machine.name);
        let certificates = Certificates::new(&folder.join("pki"), "kubernetes")?;
        let names = [
            "DNS:kubernetes",
            "DNS:kubernetes.default.svc",
            "IP:10.96.0.1",
            "IP:127.0.0.1",
            &format!("IP:{address}"),
        ];
        certificates.issue("server", "/CN=kube-apiserver", &names)?;
        certificates.issue("admin", "/O=system:masters/CN=admin", &[])?;
        certificates.issue("account", "/CN=service-accounts", &[])?;
        let mut server = ApiServer {
            machine: machine.clone(),
            certificates,
            address: address.into(),
            folder,
            etcd: None,
            server: None,
            proxy: None,
        };
        std::fs::write(server.admin_kubeconfig(), server.render_admin()?)?;
        std::fs::write(server.folder.join("audit.yaml"), AUDIT_POLICY)?;
        server.start_etcd()?;
        server.start_server(&[])?;
        server.start_proxy()?;
        Ok(server)
    }

    /// `https://ADDRESS:6443`
    pub fn url(&self) -> String {
        format!("https://{}:{PORT}", self.address)
    }

    // ===== processes =====

    fn start_etcd(&mut self) -> Result<()> {
        let mut command = self.machine.command(tools()?.join("etcd"));
        command
            .arg("--data-dir")
            .arg(self.folder.join("etcd"))
            // In memory anyway.
            .args(["--unsafe-no-fsync", "--log-level=warn"])
            .args([
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
            ])
            .args(["--listen-peer-urls=http://127.0.0.1:2380"]);
        self.etcd = Some(self.spawn(command, "etcd.log")?);
        self.wait_for("etcd is healthy", "etcd.log", |server| {
            Ok(http::get(&server.machine, "127.0.0.1:2379", "/health")
                .is_ok_and(|(status, _)| status == 200))
        })
    }

    /// With further flags, on the usual port; waits until it is ready.
    pub fn start_server(&mut self, flags: &[&str]) -> Result<()> {
        let pki = |file: &str| self.certificates.path(file);
        let mut command = self.machine.command(tools()?.join("kube-apiserver"));
        command
            .args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--authorization-mode=Node,RBAC",
            ])
            .arg(format!("--secure-port={PORT}"))
            .arg(format!("--advertise-address={}", self.address))
            .arg(format!("--client-ca-file={}", pki("ca.crt")))
            .arg(format!("--tls-cert-file={}", pki("server.crt")))
            .arg(format!("--tls-private-key-file={}", pki("server.key")))
            .arg(format!("--service-account-key-file={}", pki("account.crt")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                pki("account.key")
            ))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .args([
                "--service-cluster-ip-range=10.96.0.0/16",
                "--shutdown-delay-duration=0s",
            ])
            .arg(format!(
                "--audit-policy-file={}",
                self.folder.join("audit.yaml").display()
            ))
            .arg(format!("--audit-log-path={}", self.audit_log().display()))
            .args(flags);
        self.server = Some(self.spawn(command, "apiserver.log")?);
        self.wait_for("the API server is ready", "apiserver.log", |server| {
            Ok(server
                .kubectl(&["get", "--raw", "/readyz"])?
                .status
                .success())
        })
    }

    /// Another process on the same store, with further flags.
    pub fn restart_server(&mut self, flags: &[&str]) -> Result<()> {
        self.kill_server()?;
        self.start_server(flags)
    }

    fn start_proxy(&mut self) -> Result<()> {
        let mut command = self.kubectl_command()?;
        command.args(["proxy", "--port=8001"]);
        self.proxy = Some(self.spawn(command, "proxy.log")?);
        self.wait_for("kubectl proxy answers", "proxy.log", |server| {
            Ok(http::get(&server.machine, PROXY, "/readyz").is_ok_and(|(status, _)| status == 200))
        })
    }

    fn spawn(&self, mut command: Command, log: &str) -> Result<Running> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(log))?;
        command.stderr(log.try_clone()?).stdout(log);
        self.machine.start(&mut command)
    }

    fn wait_for(
        &mut self,
        what: &str,
        log: &str,
        mut ready: impl FnMut(&ApiServer) -> Result<bool>,
    ) -> Result<()> {
        let mut looked = || {
            std::thread::sleep(Duration::from_millis(100));
            let processes = [&mut self.etcd, &mut self.server, &mut self.proxy];
            for process in processes.into_iter().flatten() {
                if let Some(status) = process.child.try_wait()? {
                    bail!("a process has ended with {status}");
                }
            }
            ready(self)
        };
        wait::until(what, START, &mut looked)
            .map(drop)
            .with_context(|| self.last_lines(log))
    }

    fn last_lines(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// SIGKILL to the API server; etcd stays.
    pub fn kill_server(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), Running::kill)
    }

    /// Ends API server and etcd, forgets everything, and begins anew with an empty store and the same certificates.
    pub fn replace(&mut self) -> Result<()> {
        self.kill_server()?;
        self.etcd.take().map_or(Ok(()), Running::kill)?;
        std::fs::remove_dir_all(self.folder.join("etcd"))?;
        self.start_etcd()?;
        self.start_server(&[])
    }

    /// Forgets the history of the store up to now, as the API server itself does every five minutes.
    pub fn compact(&self) -> Result<()> {
        let etcd = |path: &str, body: Value| {
            http::post(&self.machine, "127.0.0.1:2379", path, &body.to_string())
        };
        let (_, answer) = etcd("/v3/kv/range", json!({"key": "AA=="}))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let revision = answer["header"]["revision"].clone();
        let (status, text) = etcd("/v3/kv/compaction", json!({"revision": revision}))?;
        if status != 200 {
            bail!("etcd does not compact: {text}");
        }
        Ok(())
    }

    // ===== access =====

    /// A kubeconfig for the administrator, usable on the machine itself.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.yaml")
    }

    fn render_admin(&self) -> Result<String> {
        let user = format!(
            "{{client-certificate: {}, client-key: {}}}",
            self.certificates.path("admin.crt"),
            self.certificates.path("admin.key")
        );
        self.render_kubeconfig(&format!("https://127.0.0.1:{PORT}"), &user)
    }

    /// A kubeconfig with the cluster's CA; `user` is YAML in one line, such as `{tokenFile: /path}`.
    pub fn render_kubeconfig(&self, url: &str, user: &str) -> Result<String> {
        let ca = self.certificates.base64("ca.crt")?;
        Ok(format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters:\n- name: lab\n  cluster: {{server: \"{url}\", certificate-authority-data: {ca}}}\nusers:\n- name: user\n  user: {user}\ncontexts:\n- name: lab\n  context: {{cluster: lab, user: user}}\n"
        ))
    }

    fn kubectl_command(&self) -> Result<Command> {
        let mut command = self.machine.command(tools()?.join("kubectl"));
        command
            .env("HOME", &self.folder)
            .arg("--kubeconfig")
            .arg(self.admin_kubeconfig());
        Ok(command)
    }

    /// kubectl as administrator, whatever the end.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.kubectl_command()?;
        command.args(arguments);
        finish(command, b"", crate::machine::PATIENCE)
    }

    /// The same where it must succeed.
    pub fn run_kubectl(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.kubectl(arguments)?;
        if !outcome.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), outcome.stderr);
        }
        Ok(outcome.stdout)
    }

    /// One request as administrator: status and JSON.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let kind = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let text = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = http::send(&self.machine, PROXY, method, path, kind, &text)?;
        let answer = serde_json::from_str(&answer)
            .with_context(|| format!("{method} {path}: {status} {answer}"))?;
        Ok((status, answer))
    }

    /// The same where it must succeed.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        match self.call(method, path, body)? {
            (200..=202, answer) => Ok(answer),
            (status, answer) => bail!("{method} {path}: {status}: {answer}"),
        }
    }

    /// A token for a service account of kube-system, as kubelet asks for it.
    pub fn token(&self, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/kube-system/serviceaccounts/{account}/token");
        let answer = self.must(
            "POST",
            &path,
            Some(&json!({"spec": {"expirationSeconds": 3600}})),
        )?;
        let token = answer["status"]["token"].as_str().context("no token")?;
        Ok(token.to_owned())
    }

    /// One line of JSON for each request that ended (audit.k8s.io/v1, level Metadata).
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }
}

const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules:\n- level: Metadata\n  userGroups: [\"system:serviceaccounts\"]\n- level: None\n";
