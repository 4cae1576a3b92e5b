# One image for the control plane, for Envoy (whose binary Sluice also needs, to prove a revision
# before it is published), and for the backends of the example.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -o /out/ ./cmd/sluice ./examples/food-delivery

FROM envoyproxy/envoy:v1.40.0
COPY --from=build /out/ /usr/local/bin/
COPY examples/food-delivery/*.yaml /etc/sluice/food-delivery/
ENV HOME=/var/lib/sluice SLUICE_ENVOY=/usr/local/bin/envoy
RUN mkdir -p /var/lib/sluice && chown envoy: /var/lib/sluice
WORKDIR /var/lib/sluice
USER envoy
ENTRYPOINT []
CMD ["sluice", "serve"]
