// Package tests is the module of software that we did not write and test Slash32 against: cnitool as a tool dependency
// (`go tool cnitool`), and libcni through the program in libcni-check.
//
// The package itself is empty. It also makes `go build ./...` a check of more than one package, which writes no binary; to get
// the program, `go build -o FILE ./libcni-check`.
package tests
