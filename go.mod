module s3-proxy

go 1.26.3
