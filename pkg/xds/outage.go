package xds

import (
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

// Outage is a time in which an agent served its Envoys from its last good copy, as it tells when it is back.
type Outage struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Envoys are the node ids of those that were served.
	Envoys []string `json:"envoys"`
}

// metadataOutage is where the metadata of an agent's node has it.
const metadataOutage = "sluice.outage"

// What an agent can tell is bounded: so many Envoys, with ids of so many bytes.
const (
	mostOutageEnvoys = 100
	longestOutageID  = 200
)

// Metadata is the outage as the metadata of an agent's node.
func (o Outage) Metadata() *structpb.Struct {
	envoys := &structpb.ListValue{}
	for _, node := range o.Envoys[:min(len(o.Envoys), mostOutageEnvoys)] {
		envoys.Values = append(envoys.Values, structpb.NewStringValue(node))
	}
	outage := &structpb.Struct{Fields: map[string]*structpb.Value{
		"since": structpb.NewStringValue(o.Since.UTC().Format(time.RFC3339)), "until": structpb.NewStringValue(o.Until.UTC().Format(time.RFC3339)),
		"envoys": structpb.NewListValue(envoys),
	}}
	return &structpb.Struct{Fields: map[string]*structpb.Value{metadataOutage: structpb.NewStructValue(outage)}}
}

// outageOf is what a node's metadata tells of one, nil for none.
func outageOf(metadata *structpb.Struct) *Outage {
	fields := metadata.GetFields()[metadataOutage].GetStructValue().GetFields()
	since, err := time.Parse(time.RFC3339, fields["since"].GetStringValue())
	if err != nil {
		return nil
	}
	until, err := time.Parse(time.RFC3339, fields["until"].GetStringValue())
	if err != nil {
		return nil
	}
	o := &Outage{Since: since, Until: until}
	envoys := fields["envoys"].GetListValue().GetValues()
	for _, node := range envoys[:min(len(envoys), mostOutageEnvoys)] {
		if id := node.GetStringValue(); len(id) <= longestOutageID {
			o.Envoys = append(o.Envoys, id)
		}
	}
	return o
}
