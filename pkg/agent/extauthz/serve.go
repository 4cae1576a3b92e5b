package extauthz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// largestRequest bounds one question, in bytes: headers, never a body.
const largestRequest = 1 << 20

// Run answers on lis until ctx ends, then lets running checks end and returns nil. It closes lis. gRPC health checks are
// answered beside.
func (s *Server) Run(ctx context.Context, lis net.Listener) error {
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(largestRequest),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	authv3.RegisterAuthorizationServer(g, s)
	healthy := health.NewServer()
	healthy.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(g, healthy)
	stopped := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(stopped)
		healthy.Shutdown()
		timer := time.AfterFunc(2*time.Second, g.Stop)
		defer timer.Stop()
		g.GracefulStop()
	})
	err := g.Serve(lis)
	if end() {
		g.Stop()
		return fmt.Errorf("agent: serve %s: %w", lis.Addr(), err)
	}
	<-stopped
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("agent: serve %s: %w", lis.Addr(), err)
	}
	return nil
}
