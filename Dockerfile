# The gateway and nothing else: no shell, no libc. Its flags are the arguments.
#
#   docker build -t s3-proxy .
#   mkdir -p s3-proxy && cp config.json s3-proxy/
#   sudo chown -R 65532:65532 s3-proxy && sudo chmod -R u=rwX,go= s3-proxy
#   docker run --rm -v "$PWD/s3-proxy:/etc/s3-proxy:ro" s3-proxy -config config.json -check
#   docker run -d --name s3-proxy --restart unless-stopped --stop-timeout 45 \
#     -p 8080:8080 -p 127.0.0.1:9090:9090 -v "$PWD/s3-proxy:/etc/s3-proxy:ro" s3-proxy
#
# In the configuration server.host is "0.0.0.0", and so is server.admin.host: the default, 127.0.0.1,
# is the container's own. The folder is mounted, not the file: a file that is replaced, as
# editors and deployment tools do it, is a new one, and a mounted file would stay the old.
# --stop-timeout is more than server.shutdown_delay and server.shutdown_timeout together;
# Docker's own 10 s would break transfers off.

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
# "file:" paths of the configuration may be relative to its folder.
WORKDIR /etc/s3-proxy
# server.port and server.admin.port
EXPOSE 8080 9090
# There is no HEALTHCHECK: it runs a program in the container, and there is none to
# ask with. Ask the admin listener from outside, /-/healthy and /-/ready, as
# deploy/kubernetes.yaml does.
ENTRYPOINT ["/s3-proxy"]
CMD ["-config", "/etc/s3-proxy/config.json", "-watch", "5s"]
