// Package xds is the management server of the Envoys: it serves each its gateway's snapshot over delta ADS, switches
// from one snapshot to the next in three phases, and knows for every node and resource what was sent, acknowledged and
// refused.
//
// # One state machine per stream
//
// Each stream is served by one goroutine that owns a node: it alone reads requests, decides what is due and sends. The
// only thing it shares with others is a pointer to the gateway's newest target. So Publish never waits for an Envoy, a
// slow or silent one holds up only itself, and a target that was replaced before a node came to it is never sent.
// What is due is the difference between what the node has acknowledged and what it should have; what it has is kept as
// a pointer to the shared table it last had in whole, plus the names that differ. A publish therefore costs a node as
// much as there are changes, not as there are resources. (A cache of whole snapshots per node, which compares every
// resource of every type for each node and phase under one lock, could hold back neither removals nor a refused
// resource without a snapshot of its own for each node.)
//
// # Three phases
//
//  1. warming: clusters, endpoints, secrets, extension configs, runtime and the types of the agents are added and
//     changed, nothing is removed, listeners and routes stay. It ends when all of it that the node subscribes to is
//     acknowledged or refused. Envoy acknowledges clusters when they are warm. A cluster that never warms must not hold
//     the gateway for ever: after Config.PhaseTimeout the next phase begins all the same, and a route to a cluster that
//     is not there yet answers 503 until it is.
//  2. switching: new, changed and removed listeners and routes go out. It ends when they are acknowledged or refused,
//     however long that takes: there is nothing to gain by removing clusters below routes still in use.
//  3. After Config.DrainDelay what the target no longer has is removed.
//
// A newer target begins again at 1 from what the node really has. A reconnecting Envoy names what it has
// (initial_resource_versions), which counts as acknowledged: nothing of it is sent again, and a switch that it missed is
// made in the same three phases. A new Envoy process begins with nothing and passes through the same phases.
//
// # Refusals
//
// A refused version of a resource is never sent to that Envoy process again. The others of its response are sent once
// more without it, since Envoy refuses a response that it cannot decode as a whole, and takes what it has as no change.
// Envoy keeps what it had of a refused resource, and so does the record. As long as a listener or route configuration
// is kept at an older version in this way, nothing that it may still use is removed.
package xds
