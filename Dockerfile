# The gateway and nothing else: no shell, no libc. Its flags are the arguments.
#
#   docker build -t s3-proxy .
#   docker run -p 8080:8080 -v "$PWD/config.json:/etc/s3-proxy/config.json:ro" s3-proxy
#
# In the configuration server.host is "0.0.0.0": the default, 127.0.0.1, is the
# container's own. The file must be readable by user 65532.

# The whole version is given, for another compiler makes other bytes.
FROM golang:1.26.8 AS build
WORKDIR /src
# With .git, so that -version tells the commit.
COPY . .
# As in the README: whoever builds the same commit with the same Go has the same bytes.
RUN CGO_ENABLED=0 go build -trimpath -o /s3-proxy .

FROM scratch
# The authorities that sign the certificates of backends.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /s3-proxy /s3-proxy
# A number, so that Kubernetes can see that it is not root; 65532 is what
# distroless images use.
USER 65532:65532
# server.port and server.admin.port
EXPOSE 8080 9090
# There is no HEALTHCHECK: it runs a program in the container, and there is none to
# ask with. Ask the admin listener from outside, /-/healthy and /-/ready, as
# deploy/kubernetes.yaml does.
ENTRYPOINT ["/s3-proxy"]
CMD ["-config", "/etc/s3-proxy/config.json", "-watch", "5s"]
