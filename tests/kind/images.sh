#!/usr/bin/env bash
# The images of 'make e2e-kind' that a user would pull: kind's node image with those of Kubernetes in it, agnhost, and Debian
# below Slash32's own. Made of programs built here and of Debian packages; made again when one of these changed.
# Usage: images.sh CACHE, beside a docker daemon; prints the node image's name. Needs SLASH32_K8S_TOOLS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$1 tools=$SLASH32_K8S_TOOLS
# On the file system of the programs, so that they are linked instead of copied.
work=$(mktemp -d "$tools/images.XXXXXX")
trap 'rm -rf "$work"' EXIT
kubernetes=$("$tools/kubectl" version --client -o json | jq -r .clientVersion.gitVersion)
"$tools/kubeadm" config images list --kubernetes-version "$kubernetes" >"$work/names" 2>/dev/null
agnhost=$(sed -n 's/^ *image: //p' "$here/../../manifests/kind/pods.yaml" | head -n 1)
kubernetes_source=$(cd "$here/../k8s" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)

# image NAME FILE... <Dockerfile: an image of these files.
image() {
  local name=$1 context
  shift
  context=$(mktemp -d "$work/context.XXXXXX")
  cp -rl "$@" "$context/" 2>/dev/null || cp -r "$@" "$context/"
  quietly docker build --tag "$name" --file - "$context"
  rm -rf "$context"
}

# quietly COMMAND...: what it prints is told only if it fails.
quietly() { "$@" >"$work/output" 2>&1 || { cat "$work/output" >&2; return 1; }; }

# kubeadm_name NAME: what kubeadm calls that image, with registry and version.
kubeadm_name() { grep -E "/$1:" "$work/names"; }

control_plane_images() {
  local program
  for program in kube-apiserver kube-controller-manager kube-scheduler etcd; do
    kubeadm_name $program
    image "$(kubeadm_name $program)" "$tools/$program" <<END
FROM scratch
ENV PATH=/usr/local/bin
COPY $program /usr/local/bin/
END
  done
}

# kube-proxy of iptables mode would need iptables too: the cluster file says nftables.
every_node_images() {
  kubeadm_name pause && kubeadm_name coredns && kubeadm_name kube-proxy && echo "$agnhost"
  cc -static -Os -s -DVERSION=unversioned -o "$work/pause" "$kubernetes_source/build/pause/linux/pause.c"
  image "$(kubeadm_name pause)" "$work/pause" <<END
FROM scratch
COPY pause /
ENTRYPOINT ["/pause"]
END
  image "$(kubeadm_name coredns)" "$tools/coredns" <<END
FROM scratch
COPY coredns /
ENTRYPOINT ["/coredns"]
END
  image "$(kubeadm_name kube-proxy)" "$tools/kube-proxy" "$here/with-libraries" <<END
FROM slash32-kind-base AS base
COPY with-libraries /usr/local/bin/
RUN with-libraries /image nft conntrack
FROM scratch
ENV PATH=/usr/local/bin:/usr/sbin
COPY --from=base /image /
COPY kube-proxy /usr/local/bin/
END
}

# For the pods that test, and for the container outside.
agnhost_image() {
  image "$agnhost" "$tools/agnhost" "$here/with-libraries" <<END
FROM slash32-kind-base AS base
COPY with-libraries /usr/local/bin/
RUN with-libraries /image curl
FROM scratch
ENV PATH=/usr/bin
COPY --from=base /image /
COPY agnhost /
ENTRYPOINT ["/agnhost"]
END
}

node_image() {
  local context="$work/node"
  mkdir -p "$context/images" "$context/bin"
  docker save --output "$context/images/control-plane.tar" $(control_plane_images)
  docker save --output "$context/images/every-node.tar" $(every_node_images)
  cp -l "$tools"/kube{adm,let,ctl} "$context/bin/"
  cp -r "$here/node/rootfs" "$context/"
  cp "$here/runc-without-sys-resource" "$context/rootfs/usr/local/sbin/"
  echo "$kubernetes" >"$context/rootfs/kind/version"
  sed -i "s|PAUSE_IMAGE|$(kubeadm_name pause)|" "$context/rootfs/etc/containerd/config.toml"
  quietly docker build --build-arg BASE=slash32-kind-base --tag "$1" --file "$here/node/Dockerfile" "$context"
}

bases=("$cache"/node-*.tar "$cache"/slim-*.tar)
recipe=$(cd "$here" && { find images.sh node runc-without-sys-resource with-libraries ../../manifests/kind/pods.yaml -type f -print0 | sort -z | xargs -0 sha256sum; cat "$tools"/.cluster "$tools"/.coredns "$tools"/.kubeadm; echo "${bases[@]}"; } | sha256sum | cut -c1-12)
name=slash32-kind-node:$recipe
if ! docker image inspect "$name" >/dev/null 2>&1; then
  docker import "${bases[0]}" slash32-kind-base >/dev/null
  docker import -c 'CMD ["bash"]' "${bases[1]}" debian:bookworm-slim >/dev/null
  agnhost_image
  docker images --quiet slash32-kind-node | xargs -r docker rmi --force >/dev/null
  node_image "$name"
  docker image prune --force >/dev/null
fi
echo "$name"
