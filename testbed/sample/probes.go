// What the sample application answers to probes other than plain HTTP: gRPC health checks, and HTTPS.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"time"
)

// grpcHealth answers grpc.health.v1.Health/Check (gRPC, "Health Checking Protocol") by hand: a message of gRPC is a byte that
// says whether it is compressed, four bytes of length, and a HealthCheckResponse whose only field is the status.
func (app *application) grpcHealth(w http.ResponseWriter, _ *http.Request) {
	const serving, notServing = 1, 2
	status := byte(serving)
	if app.unready || app.stopping.Load() {
		status = notServing
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 0x08, status})
	// Without this, net/http declares the length of a short body and drops the trailers.
	_ = http.NewResponseController(w).Flush()
	w.Header().Set("Grpc-Status", "0")
}

// serveHTTPS serves with a certificate that nobody trusts, as an application that only its kubelet asks.
func serveHTTPS(address string, handler http.Handler) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	certificate := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	server := &http.Server{
		Addr:      address,
		Handler:   handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	return server.ListenAndServeTLS("", "")
}
