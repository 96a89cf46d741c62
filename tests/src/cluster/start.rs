//! From nothing to three Ready nodes with DNS.

use crate::cluster::host::Host;
use crate::cluster::images;
use crate::cluster::pki::{self, Authority, User};
use crate::cluster::run::Run;
use crate::cluster::{Cluster, Options, Topology, components, runtime, seed, tools};
use crate::lab::Lab;
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A control plane takes 10 s alone on two cores; a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(180);

/// The authority's certificate in each node.
const AUTHORITY: &str = "/etc/kubernetes/ca.crt";

static NEXT: AtomicUsize = AtomicUsize::new(1);

impl Cluster {
    /// Up, with the network and CoreDNS Ready. What has run so far is dumped and removed when it fails.
    pub fn start(run: &Arc<Run>, options: Options) -> Result<Cluster> {
        let mut clock = Clock::new();
        let tools = tools()?;
        let archives = images::make_all(&tools, &run.cache.join("images"))?;
        clock.stage("images made");
        let mut cluster = Cluster::lay_out(run, options, &tools)?;
        clock.stage("nodes booted");
        let came_up = cluster.bring_up(&archives, &mut clock);
        cluster.stages = clock.stages;
        if let Err(error) = came_up {
            let folder = cluster.dump("start");
            return Err(error.context(format!("cluster did not come up; see {folder}")));
        }
        Ok(cluster)
    }

    fn lay_out(run: &Arc<Run>, options: Options, tools: &std::path::Path) -> Result<Cluster> {
        let name = format!("k{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let far = match options.topology {
            Topology::Flat => 1,
            Topology::Split => 2,
        };
        let lab = Lab::with_nodes(&name, &[("cp", 1), ("worker1", 1), ("worker2", far)])?;
        let programs: Vec<(PathBuf, PathBuf)> = vec![
            (tools.to_path_buf(), "/opt/k8s".into()),
            (runtime(options.containerd)?, "/opt/containerd".into()),
            (run.cache.join("images"), "/opt/images".into()),
        ];
        let hosts = in_parallel(&lab.nodes, |node| Host::boot(run, &name, node, &programs))?;
        Ok(Cluster {
            options,
            hosts,
            lab,
            before_network: Vec::new(),
            stages: Vec::new(),
            admin: PathBuf::from("/run/admin").join(&name),
            run: run.clone(),
        })
    }

    fn bring_up(&mut self, archives: &[PathBuf], clock: &mut Clock) -> Result<()> {
        self.write_configuration()?;
        let cp = self.control_plane();
        cp.run_component(components::etcd())?;
        cp.run_component(components::api_server(&cp.node.addresses()[0]))?;
        let seed = seed::ensure(
            &self.run.cache,
            self.options.containerd,
            &self.hosts[1],
            archives,
        )?;
        in_parallel(&self.hosts, |host| {
            seed.lay(host)?;
            host.run_runtime()
        })?;
        clock.stage("containerd started");
        self.await_api()?;
        clock.stage("API ready");
        cp.run_component(components::controller_manager())?;
        cp.run_component(components::scheduler())?;
        for host in &self.hosts {
            let is_cp = host.name == "cp";
            host.run_component(components::kubelet(
                &host.name,
                &host.node.addresses()[0],
                is_cp,
            ))?;
            host.run_component(components::kube_proxy())?;
        }
        self.apply(include_str!("../../manifests/coredns.yaml"))?;
        self.await_nodes("told why they are not Ready", |cluster, node| {
            Ok(cluster.pod_cidr(node)?.is_some() && cluster.readiness(node)?.is_some())
        })?;
        self.kubectl(&[
            "label",
            "node",
            "cp",
            "node-role.kubernetes.io/control-plane=",
        ])?;
        clock.stage("nodes registered");
        self.before_network = self.reasons()?;
        self.install_network()?;
        clock.stage("network installed");
        self.await_nodes("Ready", |cluster, node| {
            Ok(cluster.readiness(node)?.is_some_and(|(ready, _)| ready))
        })?;
        clock.stage("nodes Ready");
        self.await_rollout("kube-system", "deployment/coredns")?;
        clock.stage("CoreDNS Ready");
        Ok(())
    }

    fn reasons(&self) -> Result<Vec<(String, String)>> {
        self.hosts
            .iter()
            .map(|host| {
                let (ready, message) = self.readiness(&host.name)?.context("no condition")?;
                Ok((host.name.clone(), format!("ready={ready}: {message}")))
            })
            .collect()
    }

    /// Until the API server answers.
    pub fn await_api(&self) -> Result<()> {
        self.wait_for("the API server is ready", PATIENCE, |cluster| {
            Ok(cluster.get_text("/readyz").is_ok_and(|text| text == "ok"))
        })
    }

    fn await_nodes(
        &self,
        what: &str,
        is_so: impl Fn(&Cluster, &str) -> Result<bool>,
    ) -> Result<()> {
        for host in &self.hosts {
            self.wait_for(
                &format!("node {} is {what}", host.name),
                PATIENCE,
                |cluster| is_so(cluster, &host.name),
            )?;
        }
        Ok(())
    }

    fn write_configuration(&self) -> Result<()> {
        let authority = Authority::new()?;
        let server = format!("https://{}:6443", self.control_plane().node.addresses()[0]);
        let users = self.users();
        std::fs::create_dir_all(&self.admin)?;
        std::fs::write(self.admin.join("ca.crt"), &authority.certificate)?;
        let admin = User::new("admin", "system:masters");
        let certificate = self.admin.join("ca.crt").display().to_string();
        std::fs::write(
            self.kubeconfig(),
            pki::render_kubeconfig(&server, &certificate, &admin),
        )?;
        self.write_control_plane(&authority, &server, &users)?;
        for host in &self.hosts {
            let [v4, _] = host.node.addresses();
            let kubelet = User::new(&format!("system:node:{}", host.name), "system:nodes");
            let pair =
                authority.issue(&host.name, None, &[&v4, &host.spare_address(), &host.name])?;
            let proxy = User::new("system:kube-proxy", "");
            for (file, text) in [
                ("ca.crt", authority.certificate.clone()),
                ("kubelet.crt", pair.certificate),
                ("kubelet.key", pair.key),
                (
                    "kubelet.conf",
                    pki::render_kubeconfig(&server, AUTHORITY, &kubelet),
                ),
                (
                    "kube-proxy.conf",
                    pki::render_kubeconfig(&server, AUTHORITY, &proxy),
                ),
                ("kubelet.yaml", components::render_kubelet_config()),
                (
                    "containerd.toml",
                    components::render_containerd_config(self.options.containerd),
                ),
                (
                    "kube-proxy.yaml",
                    components::render_kube_proxy_config(self.options.kube_proxy, &host.name),
                ),
            ] {
                host.write_config(file, &text)?;
            }
        }
        Ok(())
    }

    fn users(&self) -> Vec<User> {
        let mut users = vec![
            User::new("admin", "system:masters"),
            User::new("system:kube-controller-manager", ""),
            User::new("system:kube-scheduler", ""),
            User::new("system:kube-proxy", ""),
        ];
        users.extend(
            self.hosts
                .iter()
                .map(|host| User::new(&format!("system:node:{}", host.name), "system:nodes")),
        );
        users
    }

    fn write_control_plane(
        &self,
        authority: &Authority,
        server: &str,
        users: &[User],
    ) -> Result<()> {
        let cp = self.control_plane();
        let [address, _] = cp.node.addresses();
        let hosts = [
            address.as_str(),
            "127.0.0.1",
            "10.96.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let serving = authority.issue("kube-apiserver", None, &hosts)?;
        let admin = authority.issue("admin", Some("system:masters"), &[])?;
        let front_proxy = authority.issue("front-proxy", None, &[])?;
        let tokens = pki::service_account_key()?;
        for (name, pair) in [
            ("apiserver", &serving),
            ("admin", &admin),
            ("front-proxy", &front_proxy),
        ] {
            cp.write_config(&format!("{name}.crt"), &pair.certificate)?;
            cp.write_config(&format!("{name}.key"), &pair.key)?;
        }
        cp.write_config("sa.pub", &tokens.certificate)?;
        cp.write_config("sa.key", &tokens.key)?;
        cp.write_config("tokens.csv", &pki::render_tokens(users))?;
        for (file, name) in [
            ("controller-manager.conf", "system:kube-controller-manager"),
            ("scheduler.conf", "system:kube-scheduler"),
        ] {
            cp.write_config(
                file,
                &pki::render_kubeconfig(server, AUTHORITY, &User::new(name, "")),
            )?;
        }
        Ok(())
    }
}

/// One thread for each; the first error.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    all: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread ended by a panic"))?
            })
            .collect()
    })
}

struct Clock {
    started: Instant,
    stages: Vec<(String, f64)>,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            started: Instant::now(),
            stages: Vec::new(),
        }
    }

    fn stage(&mut self, name: &str) {
        self.stages
            .push((name.into(), self.started.elapsed().as_secs_f64()));
    }
}
