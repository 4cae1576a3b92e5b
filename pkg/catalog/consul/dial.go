package consul

import "github.com/hashicorp/consul/api"

// Dial is a client of the Consul that a Config names, and its token as it is at each call, for those who ask Consul for
// more than its catalog. Nothing is asked yet.
func Dial(c Config) (*api.Client, func() string, error) {
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	made, err := newClient(c)
	if err != nil {
		return nil, nil, err
	}
	return made.api, made.token.Get, nil
}
