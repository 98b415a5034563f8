# hack/image.sh (make image) builds the static binary before. The image contains this binary only, and so supports every
# architecture of the binary.
FROM scratch
LABEL org.opencontainers.image.title="e6-operator" \
      org.opencontainers.image.description="Blue-green releases of the e6data metadata services on Kubernetes" \
      org.opencontainers.image.source="https://github.com/e6data/e6-operator" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY target/image/e6-operator /e6-operator
USER 65532:65532
ENTRYPOINT ["/e6-operator"]
