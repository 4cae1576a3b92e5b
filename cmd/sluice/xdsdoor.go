package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
	"github.com/sluice-gateway/sluice/pkg/certs"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// xdsFlags say by which certificates Envoys and agents are known.
type xdsFlags struct{ certs.Files }

func (x *xdsFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&x.Certificate, "xds-cert", "", "the certificate that Envoys and agents know this server by; with it they need certificates, too (SLUICE_XDS_CERT)")
	f.StringVar(&x.Key, "xds-key", "", "its key (SLUICE_XDS_KEY)")
	f.StringVar(&x.CA, "xds-client-ca", "", "the authorities of Envoys' and agents' certificates (SLUICE_XDS_CLIENT_CA)")
	f.StringVar(&x.CRL, "xds-crl", "", "revocation lists of these authorities (SLUICE_XDS_CRL)")
}

// credentials are nil when no certificate is given.
func (x *xdsFlags) credentials(log *slog.Logger) (*certs.Credentials, error) {
	if x.Files == (certs.Files{}) {
		return nil, nil
	}
	if x.Certificate == "" || x.Key == "" || x.CA == "" {
		return nil, errors.New("--xds-cert, --xds-key and --xds-client-ca are needed together: sluice certs makes them")
	}
	return certs.Open("xds", x.Files, log)
}

// listenXDS listens for Envoys and agents: anywhere if they have to prove themselves.
func listenXDS(ctx context.Context, address string, known *certs.Credentials) (net.Listener, error) {
	if known != nil {
		return admin.ListenAnywhere(ctx, "--listen-xds", address)
	}
	lis, err := admin.Listen(ctx, "--listen-xds", address)
	if errors.Is(err, admin.ErrNotLoopback) {
		return nil, fmt.Errorf("%w; sluice serve listens elsewhere with --xds-cert, --xds-key and --xds-client-ca, which sluice certs makes", err)
	}
	return lis, err
}

// deniedNode writes down what an Envoy or agent, or somebody who calls itself one, was denied.
func (d adminDoor) deniedNode(_ context.Context, denial xds.Denial) {
	object := ""
	if denial.Node != "" || denial.Gateway != "" {
		object = fmt.Sprintf("gateway %s, node %s", denial.Gateway, denial.Node)
	}
	d.audit.Denied(auditlog.Event{
		Who: denial.Caller, From: denial.Address, Operation: "xds " + denial.Method, Object: object, Reason: denial.Reason,
	})
}

// nodeFlags say what an agent proves itself with to the control plane.
type nodeFlags struct {
	certs.Files
	serverName string
}

func (n *nodeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.Certificate, "cert", "", "its certificate, that of the Envoy beside it (SLUICE_CERT)")
	f.StringVar(&n.Key, "key", "", "the certificate's key (SLUICE_KEY)")
	f.StringVar(&n.CA, "ca", "", "the authorities of the servers' certificates (SLUICE_CA)")
	f.StringVar(&n.serverName, "server-name", "", "the name in the servers' certificate (default: the host of each address) (SLUICE_SERVER_NAME)")
}

// credentials are nil when none are given.
func (n *nodeFlags) credentials(log *slog.Logger) (*certs.Credentials, error) {
	switch {
	case n.Files == (certs.Files{}) && n.serverName == "":
		return nil, nil
	case n.Certificate == "" || n.Key == "" || n.CA == "":
		return nil, errors.New("--cert, --key and --ca are needed together: sluice certs node makes them")
	}
	return certs.Open("control-plane", n.Files, log)
}

// check holds what an agent calls itself against its certificate, which the server would do else.
func (n *nodeFlags) check(known *certs.Credentials, gateway, node string) error {
	identity, err := certs.NodeOf(known.Own())
	if err != nil {
		return fmt.Errorf("--cert %s: %w", n.Certificate, err)
	}
	if !identity.Covers(gateway, node) {
		return fmt.Errorf("--cert %s is that of %s, which is neither the node %s of the gateway %s nor the Envoy beside it", n.Certificate, identity.URI(), node, gateway)
	}
	return nil
}

// dial is how each connection to the control plane is secured; nil for not at all.
func (n *nodeFlags) dial(known *certs.Credentials) func() credentials.TransportCredentials {
	if known == nil {
		return nil
	}
	return func() credentials.TransportCredentials { return credentials.NewTLS(known.ClientConfig(n.serverName)) }
}
