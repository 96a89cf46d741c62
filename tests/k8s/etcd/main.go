// Command etcd is etcd's own server of the version that this Kubernetes was built against: etcd has no main package that can
// be had as a Go module without its source tree around it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
