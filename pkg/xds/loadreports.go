package xds

import (
	"time"

	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// loadReports answers the load reports that every bootstrap offers: an Envoy is told that none of its clusters is
// wanted, and stays connected. Without an answer it would ask again, and log that, every few seconds.
type loadReports struct {
	loadstatsv3.UnimplementedLoadReportingServiceServer
	closing <-chan struct{}
}

// StreamLoadStats implements the load reporting service.
func (l loadReports) StreamLoadStats(stream loadstatsv3.LoadReportingService_StreamLoadStatsServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&loadstatsv3.LoadStatsResponse{LoadReportingInterval: durationpb.New(time.Hour)}); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- readOn(stream) }()
	select {
	case err := <-ended:
		return err
	case <-stream.Context().Done():
	case <-l.closing:
	}
	return nil
}

// readOn reads what nobody asked for until the stream ends: who says it is looked at all the same.
func readOn(stream loadstatsv3.LoadReportingService_StreamLoadStatsServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}
