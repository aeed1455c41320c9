/*
 * What tlsd, or whatever has its socket, may say to the preload library: answers and pieces, whole,
 * changed and cut, in one go and byte by byte. Built with the sanitizers; the laws:
 *
 *	however it comes, the program gets the same bytes and the same end of them;
 *	a session that has not been granted, whole and with a certificate, is none.
 *
 * usage: fuzz ROUNDS SEED
 */
#include "../../roles/tlsd/preload/preload.c"

#include <assert.h>
#include <openssl/x509.h>

static uint64_t state;

static size_t any(size_t n) /* xorshift */
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return n == 0 ? 0 : (size_t)(state % n);
}

static char *encoded; /* a certificate */

static void make_certificate(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	unsigned char *der = NULL;
	int n;
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"h", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	assert(X509_sign(cert, key, EVP_sha256()) > 0 && (n = i2d_X509(cert, &der)) > 0);
	assert((encoded = malloc((size_t)n * 2)) != NULL);
	EVP_EncodeBlock((unsigned char *)encoded, der, n);
	OPENSSL_free(der);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/* say composes what is said, with a mistake in it or without; 1: without. */
static int say(char *b, size_t *n)
{
	size_t end = (size_t)sprintf(b, "GATEHOUSE-TLS/1 200 joined\r\nMode: exclusive\r\nVersion: 1.3\r\nCipher: TLS_AES_128_GCM_SHA256\r\n"
	    "Verify: ok\r\nSubject: CN=h\r\nCertificate: %s\r\n%s%s%s\r\n", encoded, any(2) ? "Certificate: " : "X: ", encoded, "\r\n");
	for (size_t i = any(4); i > 0; i--) {
		uint32_t length = (uint32_t)any(300), is = htonl(length);
		memcpy(b + end, &is, LENGTH);
		memset(b + end + LENGTH, (int)any(256), length);
		end += LENGTH + length;
	}
	*n = end;
	if (any(4) == 0)
		return 1;
	for (size_t i = 1 + any(3); i > 0; i--) {
		size_t at = any(end);
		switch (any(4)) {
		case 0:
			b[at] = (char)any(256);
			break;
		case 1:
			end = at + 1;
			break;
		case 2:
			memmove(b + at, b + at + 1, end-- - at - 1);
			break;
		default:
			memset(b + at, "\0\r\n:="[any(5)], end - at < 4 ? end - at : 4);
		}
		if (end == 0)
			break;
	}
	*n = end;
	return 0;
}

/* hear gives what a program gets of it, in pieces of at most step bytes; -1: it has no session. */
static long hear(SSL_CTX *ctx, const char *said, size_t n, size_t step, char *got, int *end)
{
	int pair[2], was = 0;
	struct session *s = calloc(1, sizeof *s);
	SSL *ssl = SSL_new(ctx);
	long len = 0;
	size_t at = 0, k;
	assert(s != NULL && ssl != NULL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	assert(fstat(pair[0], &s->is) == 0 && SSL_set_tlsext_host_name(ssl, "h") && SSL_set_fd(ssl, pair[0]));
	s->fd = pair[0];
	s->pid = getpid();
	s->host = hosts;
	s->next = sessions;
	sessions = s;
	SSL_connect(ssl); /* asks */
	while (1) {
		if (at < n) {
			size_t part = n - at < step ? n - at : step;
			assert(write(pair[1], said + at, part) == (ssize_t)part);
			at += part;
		} else {
			shutdown(pair[1], SHUT_WR);
		}
		if (s->state != OPEN && SSL_connect(ssl) != 1) {
			*end = SSL_get_error(ssl, -1);
			if (*end == SSL_ERROR_WANT_READ)
				continue;
			len = -1;
			break;
		}
		for (was = 1; SSL_read_ex(ssl, got + len, 1 + any(500), &k); len += (long)k)
			assert(k > 0);
		*end = SSL_get_error(ssl, 0);
		if (*end != SSL_ERROR_WANT_READ)
			break;
	}
	assert(was == (len >= 0));
	ERR_clear_error();
	SSL_free(ssl);
	close(pair[0]);
	close(pair[1]);
	return len;
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	static char said[16 << 10], one[16 << 10], two[16 << 10];
	assert(argc == 3 && ctx != NULL && num_hosts == 1);
	state = strtoull(argv[2], NULL, 10) * 2 + 1;
	make_certificate();
	for (long i = atol(argv[1]); i > 0; i--) {
		size_t n;
		int good = say(said, &n), end, again;
		long len = hear(ctx, said, n, sizeof said, one, &end), same = hear(ctx, said, n, 1 + any(64), two, &again);
		assert(len == same && end == again && (len < 0 || memcmp(one, two, (size_t)len) == 0));
		assert(!good || len >= 0);
		assert(len < 0 || (memmem(said, n, "GATEHOUSE-TLS/1 200 ", 20) == said && memmem(said, n, "\r\nVerify: ok\r\n", 14) != NULL &&
		    memmem(said, n, "\r\nMode: exclusive\r\n", 19) != NULL && memmem(said, n, "\r\nCertificate: ", 15) != NULL));
	}
	SSL_CTX_free(ctx);
	free(encoded);
	return 0;
}
