//! How each component of Kubernetes is told to run here. Why a value is as it is stands beside it.

use crate::cluster::component::Recipe;
use crate::cluster::{CLUSTER_CIDR, Containerd, DNS_ADDRESS, KubeProxyMode, SERVICE_CIDR};

/// Where configuration lies in each node.
const ETC: &str = "/etc/kubernetes";

fn flags<const N: usize>(flags: [String; N]) -> impl Iterator<Item = String> {
    flags.into_iter()
}

/// etcd. The node's root lies on a tmpfs: it lasts over reboots, and no disk is waited for.
pub(crate) fn etcd() -> Recipe {
    Recipe::new(
        "etcd",
        flags(
            [
                "--data-dir=/var/lib/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ]
            .map(str::to_owned),
        ),
    )
}

pub(crate) fn api_server(address: &str) -> Recipe {
    Recipe::new(
        "kube-apiserver",
        flags([
            format!("--advertise-address={address}"),
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            format!("--client-ca-file={ETC}/ca.crt"),
            format!("--tls-cert-file={ETC}/apiserver.crt"),
            format!("--tls-private-key-file={ETC}/apiserver.key"),
            format!("--token-auth-file={ETC}/tokens.csv"),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={ETC}/sa.pub"),
            format!("--service-account-signing-key-file={ETC}/sa.key"),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            format!("--kubelet-certificate-authority={ETC}/ca.crt"),
            format!("--kubelet-client-certificate={ETC}/admin.crt"),
            format!("--kubelet-client-key={ETC}/admin.key"),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--allow-privileged=true".into(),
            format!("--requestheader-client-ca-file={ETC}/ca.crt"),
            "--requestheader-allowed-names=front-proxy".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={ETC}/front-proxy.crt"),
            format!("--proxy-client-key-file={ETC}/front-proxy.key"),
        ]),
    )
}

pub(crate) fn controller_manager() -> Recipe {
    Recipe::new(
        "kube-controller-manager",
        flags([
            format!("--kubeconfig={ETC}/controller-manager.conf"),
            format!("--authentication-kubeconfig={ETC}/controller-manager.conf"),
            format!("--authorization-kubeconfig={ETC}/controller-manager.conf"),
            "--leader-elect=false".into(),
            "--use-service-account-credentials=true".into(),
            format!("--service-account-private-key-file={ETC}/sa.key"),
            format!("--root-ca-file={ETC}/ca.crt"),
            "--allocate-node-cidrs=true".into(),
            format!("--cluster-cidr={CLUSTER_CIDR}"),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            "--node-cidr-mask-size=24".into(),
        ]),
    )
}

pub(crate) fn scheduler() -> Recipe {
    Recipe::new(
        "kube-scheduler",
        flags([
            format!("--kubeconfig={ETC}/scheduler.conf"),
            format!("--authentication-kubeconfig={ETC}/scheduler.conf"),
            format!("--authorization-kubeconfig={ETC}/scheduler.conf"),
            "--leader-elect=false".into(),
        ]),
    )
}

pub(crate) fn containerd() -> Recipe {
    Recipe::new(
        "containerd",
        flags([format!("--config={ETC}/containerd.toml")]),
    )
}

pub(crate) fn kubelet(node: &str, address: &str, is_control_plane: bool) -> Recipe {
    let mut arguments = vec![
        format!("--config={ETC}/kubelet.yaml"),
        format!("--kubeconfig={ETC}/kubelet.conf"),
        format!("--hostname-override={node}"),
        format!("--node-ip={address}"),
    ];
    if is_control_plane {
        arguments
            .push("--register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule".into());
    }
    Recipe::new("kubelet", arguments)
}

pub(crate) fn kube_proxy() -> Recipe {
    Recipe::new(
        "kube-proxy",
        flags([format!("--config={ETC}/kube-proxy.yaml")]),
    )
}

/// restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE cannot lower it, and every sandbox would fail.
pub(crate) fn render_containerd_config(version: Containerd) -> String {
    match version {
        Containerd::V1 => r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.2"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "/opt/containerd/runc"
        SystemdCgroup = false
"#
        .into(),
        Containerd::V2 => r#"version = 3
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "registry.k8s.io/pause:3.10.2"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "/opt/containerd/runc"
      SystemdCgroup = false
"#
        .into(),
    }
}

/// No evictions, no image collection: what is tested is the network, on a disk that others use too.
pub(crate) fn render_kubelet_config() -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: {ETC}/manifests
clusterDNS: [{DNS_ADDRESS}]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
tlsCertFile: {ETC}/kubelet.crt
tlsPrivateKeyFile: {ETC}/kubelet.key
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ETC}/ca.crt}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
failCgroupV1: false
enforceNodeAllocatable: []
oomScoreAdj: 0
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}}
"#
    )
}

/// The number of connections that are tracked is one for all namespaces, and read-only in them.
pub(crate) fn render_kube_proxy_config(mode: KubeProxyMode, node: &str) -> String {
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: {}
hostnameOverride: {node}
clientConnection: {{kubeconfig: {ETC}/kube-proxy.conf}}
clusterCIDR: {CLUSTER_CIDR}
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0}}
"#,
        match mode {
            KubeProxyMode::Nftables => "nftables",
            KubeProxyMode::Iptables => "iptables",
        }
    )
}
