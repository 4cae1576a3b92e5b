// Package certs is how the parts of sluice prove themselves to each other: a private authority that signs certificates,
// what those certificates say of their bearers, and TLS configurations that follow their files as these are rotated.
//
// Who somebody is stands in the certificate as a URI, and nowhere else:
//
//	spiffe://sluice/gateway/<gateway>/node/<node>    an Envoy and the agent beside it
//	spiffe://sluice/gateway/<gateway>                any Envoy or agent of a gateway
//	spiffe://sluice/role/<role>/name/<name>          a person or program that calls the admin API
//
// Bytes of a name beside letters, digits and -._~ are percent-encoded, in capitals; another spelling of the same name is
// no name. A certificate has one such URI or none; what else it names does not count. So any authority can sign these
// certificates, not only the one that is made here.
package certs
