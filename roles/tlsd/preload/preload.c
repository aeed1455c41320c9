/*
 * gatehouse-preload.so: a program that uses OpenSSL 3 takes part in tlsd's shared sessions and
 * knows nothing of it. LD_PRELOAD names it, and
 *
 *	GATEHOUSE_TLS=shared|unshared     unshared, or none: everything is as without it
 *	GATEHOUSE_TLS_HOSTS=HOST:PORT,... whose connections are sessions of tlsd's
 *	GATEHOUSE_TLS_SESSION=NAME        of the session; none: HOST:PORT
 *	GATEHOUSE_TLS_SOCKET=PATH         tlsd's
 *
 * connect to such a host is one to tlsd's socket, under the descriptor that the program has. What
 * the program does with its SSL goes through its own BIO, in the protocol of roles/tlsd/protocol:
 * the handshake is the head and its answer, what is written and read are chunks. The answer's
 * certificates are verified once more, by all that the program has set. Nothing goes on where tlsd
 * gives no session: what OpenSSL itself, or a program in plain text, would send there tlsd refuses.
 * Mistakes in the variables end the program.
 *
 * A session is let go when the program is done with its SSL or its connection. It does not say
 * whether it is in the middle of something then: tlsd sees to that (Release: http).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { MAX_HOSTS = 64, MAX_PLACES = 32, MAX_HOST = 253, MAX_ANSWER = 64 << 10 };
enum { LENGTH = 4, MAX_CHUNK = 1 << 20, MAX_PIECE = 16 << 10 }; /* MAX_PIECE is written at once */
#define RELEASE 0xFFFFFFFFu

/* Reasons of errors; those from 400 on are tlsd's statuses. */
enum { AWAY = 100, NO_HOST, SETTINGS, ANSWER, PROTOCOL, OTHER, AROUND };
static ERR_STRING_DATA reasons[] = {
	{0, "tlsd"},
	{AWAY, "tlsd is away"},
	{NO_HOST, "the server's name is not in GATEHOUSE_TLS_HOSTS"},
	{SETTINGS, "the program has settings that no shared session can meet"},
	{ANSWER, "tlsd's answer makes no sense"},
	{PROTOCOL, "the session has a version or cipher that the program does not allow"},
	{OTHER, "the connection is not what it was, or another process's"},
	{AROUND, "the connection is to a host of GATEHOUSE_TLS_HOSTS, and not by tlsd"},
	{400, "tlsd does not understand"},
	{403, "tlsd refuses"},
	{408, "tlsd: no session, or no turn, in time"},
	{409, "tlsd has another session of that name"},
	{429, "tlsd: too many of this user"},
	{502, "tlsd has no session with the server"},
	{503, "tlsd is full, or about to end"},
	{0, NULL},
};

struct host {
	char target[MAX_HOST + 16], name[MAX_HOST + 1];
	in_port_t port;                        /* in network order */
	int literal, looked_up;                /* literal: the name is an address */
	struct sockaddr_in6 place[MAX_PLACES]; /* or sockaddr_in */
	unsigned places;                       /* that there have been */
};

/* session is a connection to tlsd that the program believes to be one to a host, and what an SSL
 * has there instead of TLS. */
struct session {
	struct session *next;
	int fd; /* -1: there is none */
	struct stat is;
	pid_t pid;
	const struct host *host; /* one of those that are at the address */
	BIO *bio;                /* of the SSL that has it */
	enum { ASKING, ANSWERING, OPEN, OVER, NONE } state;
	int error;               /* for SSL_get_error */
	char buffer[MAX_ANSWER]; /* the head, its answer, then what is being written */
	size_t at, len;
	size_t sent;                  /* of what the program is writing, that is in pieces */
	unsigned char length[LENGTH]; /* of the next piece to be read */
	size_t length_len;
	uint32_t left; /* of a piece that is being read */
	uint64_t has;  /* bytes that the program has read */
	size_t took;   /* that was read or written */
	STACK_OF(X509) *chain, *verified;
	const SSL_CIPHER *cipher;
	const char *version; /* of TLS */
};

static struct host hosts[MAX_HOSTS];
static int num_hosts; /* 0: everything is left alone */
static char name[160]; /* of the session, as the head has it */
static struct sockaddr_un tlsd = {AF_UNIX, "/run/gatehouse/tlsd.sock"};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of sessions, and of places of hosts */
static struct session *sessions;
static int of_ssl, library;   /* index of ex_data; that of errors */
static int verifies_itself;   /* the program, with some SSL_CTX */
static __thread int *probing; /* what descriptor is asked for */

static void hold(void) { pthread_mutex_lock(&lock); }
static void unhold(void) { pthread_mutex_unlock(&lock); }

/* mistake ends a program that would have no session, or another one than was meant. */
static void mistake(const char *what)
{
	fprintf(stderr, "gatehouse-preload: %s makes no sense\n", what);
	_exit(127);
}

/* REAL is the function that the program meant. */
#define REAL(f) ({ \
	static void *real; \
	void *is = __atomic_load_n(&real, __ATOMIC_RELAXED); \
	if (is == NULL) \
		__atomic_store_n(&real, is = dlsym(RTLD_NEXT, #f), __ATOMIC_RELAXED); \
	(__typeof__(&f))is; \
})

/* --- hosts --- */

/* key is how much of an address says where it is; 0: nothing, where it is not of IPv4 or IPv6. */
static size_t key(const void *sa)
{
	sa_family_t family = ((const struct sockaddr *)sa)->sa_family;
	return family == AF_INET ? offsetof(struct sockaddr_in, sin_zero) :
	    family == AF_INET6 ? offsetof(struct sockaddr_in6, sin6_scope_id) : 0;
}

static int is_at(const struct host *h, const void *sa)
{
	for (unsigned i = 0; key(sa) > 0 && i < h->places && i < MAX_PLACES; i++)
		if (memcmp(&h->place[i], sa, key(sa)) == 0)
			return 1;
	return 0;
}

/* getaddrinfo is how programs find out where a host is. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	int r = REAL(getaddrinfo)(node, service, hints, list);
	struct sockaddr_in6 sa = {0};
	if (r != 0 || node == NULL || num_hosts == 0)
		return r;
	hold();
	for (struct host *h = hosts; h < hosts + num_hosts; h++)
		for (const struct addrinfo *at = strcasecmp(h->name, node) == 0 ? *list : NULL; at != NULL; at = at->ai_next) {
			__atomic_store_n(&h->looked_up, 1, __ATOMIC_RELAXED);
			memcpy(&sa, at->ai_addr, key(at->ai_addr));
			sa.sin6_port = h->port; /* at the same place in either */
			if (!is_at(h, &sa))
				h->place[h->places++ % MAX_PLACES] = sa;
		}
	unhold();
	return r;
}

static const struct host *host_at(const void *sa)
{
	const struct host *found = NULL;
	struct addrinfo *list;
	for (struct host *h = hosts; h < hosts + num_hosts; h++) {
		if (h->port != ((const struct sockaddr_in *)sa)->sin_port)
			continue;
		/* Some programs know by other means, as curl of localhost. */
		if (!__atomic_exchange_n(&h->looked_up, 1, __ATOMIC_RELAXED) && getaddrinfo(h->name, NULL, NULL, &list) == 0)
			freeaddrinfo(list);
		hold();
		found = is_at(h, sa) && (found == NULL || h->literal) ? h : found;
		unhold();
	}
	return found;
}

static const struct host *host_named(const char *s, in_port_t port)
{
	for (const struct host *h = hosts; s != NULL && h < hosts + num_hosts; h++)
		if (h->port == port && strcasecmp(h->name, s) == 0)
			return h;
	return NULL;
}

/* --- connections --- */

/* current tells whether a descriptor is still that connection, and this process the one that made it. */
static int current(const struct session *s)
{
	struct stat is;
	return s->pid == getpid() && fstat(s->fd, &is) == 0 && is.st_dev == s->is.st_dev && is.st_ino == s->is.st_ino;
}

/* find gives the connection of a descriptor. The lock is held, as for all that has the list. */
static struct session *find(int fd)
{
	struct session *s = sessions;
	while (s != NULL && (s->fd != fd || !current(s)))
		s = s->next;
	return s;
}

/* sweep forgets those that no SSL has and whose connections are gone. */
static void sweep(void)
{
	for (struct session **at = &sessions, *s; (s = *at) != NULL;)
		if (s->bio != NULL || current(s)) {
			at = &s->next;
		} else {
			*at = s->next;
			sk_X509_pop_free(s->chain, X509_free);
			sk_X509_pop_free(s->verified, X509_free);
			free(s);
		}
}

/* divert puts a connection to tlsd in the place of a socket. */
static int divert(int fd, struct stat *is)
{
	int new = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), kept = fcntl(fd, F_GETFD);
	int good = new >= 0 && fcntl(new, F_SETFL, fcntl(fd, F_GETFL)) == 0 &&
	    REAL(connect)(new, (struct sockaddr *)&tlsd, sizeof tlsd) == 0 && fstat(new, is) == 0 &&
	    dup3(new, fd, kept & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
	if (new >= 0)
		REAL(close)(new);
	return good;
}

int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t len)
{
	const struct sockaddr *sa = to.__sockaddr__;
	const struct host *h = num_hosts > 0 && sa != NULL && len >= sizeof *sa && len >= key(sa) ? host_at(sa) : NULL;
	struct session *s;
	int type = 0;
	socklen_t n = sizeof type;
	if (h == NULL || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) != 0 || type != SOCK_STREAM)
		return REAL(connect)(fd, to, len);
	if ((s = calloc(1, sizeof *s)) == NULL || !divert(fd, &s->is)) {
		free(s);
		errno = ECONNREFUSED;
		return -1;
	}
	s->fd = fd;
	s->pid = getpid();
	s->host = h;
	hold();
	sweep();
	s->next = sessions;
	sessions = s;
	unhold();
	return 0;
}

/* setsockopt: of TCP nothing can be set on a connection to tlsd, and no program is to fail for it. */
int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	int r = REAL(setsockopt)(fd, level, option, value, len);
	return r < 0 && errno == EOPNOTSUPP && num_hosts > 0 && level != SOL_SOCKET ? 0 : r;
}

/* send shows what socket a BIO of the program's own writes to: asked to write nothing it comes by here. */
ssize_t send(int fd, const void *b, size_t n, int flags)
{
	if (probing == NULL || n > 0)
		return REAL(send)(fd, b, n, flags);
	*probing = fd;
	return 0;
}

static int descriptor(BIO *b)
{
	int fd = -1;
	size_t n;
	if (BIO_method_type(b) & BIO_TYPE_DESCRIPTOR)
		return (int)BIO_get_fd(b, NULL);
	probing = &fd;
	ERR_set_mark();
	BIO_write_ex(b, "", 0, &n);
	ERR_pop_to_mark();
	probing = NULL;
	return fd;
}

/* --- sessions --- */

/* complain says why something fails, where OpenSSL says it. */
static int complain(struct session *s, int lib, int reason)
{
	ERR_raise(lib, reason);
	s->error = SSL_ERROR_SSL;
	return 0;
}

static int broke_off(struct session *s) { return complain(s, ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING); }

/* let_go gives the session back. The caller has the SSL, or the lock. */
static void let_go(struct session *s)
{
	uint32_t b[3] = {RELEASE, htonl((uint32_t)(s->has >> 32)), htonl((uint32_t)s->has)};
	if (s->state == OPEN && s->len == 0 && current(s))
		REAL(send)(s->fd, b, sizeof b, MSG_DONTWAIT | MSG_NOSIGNAL);
	s->state = s->state == OPEN ? OVER : s->state;
}

/* close: Python has its sockets go before its SSLs. */
int close(int fd)
{
	struct session *s;
	if (num_hosts > 0) {
		hold();
		if ((s = find(fd)) != NULL)
			let_go(s);
		unhold();
	}
	return REAL(close)(fd);
}

/* drop comes with SSL_free. */
static void drop(void *ssl, void *p, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	struct session *s = p;
	(void)ssl, (void)data, (void)index, (void)argl, (void)argp;
	if (s == NULL)
		return;
	hold();
	let_go(s);
	s->bio = NULL;
	s->fd = -1;
	sweep();
	unhold();
}

static struct session *session_of(const SSL *ssl) { return num_hosts > 0 ? SSL_get_ex_data(ssl, of_ssl) : NULL; }
static const char *sni_of(const SSL *ssl) { return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name); }

/* goes_around tells whether an SSL is for a host of ours, on a connection that is not tlsd's. */
static int goes_around(SSL *ssl, int fd)
{
	struct sockaddr_in6 peer;
	socklen_t n = sizeof peer;
	return getpeername(fd, (struct sockaddr *)&peer, &n) == 0 && key(&peer) > 0 && host_named(sni_of(ssl), peer.sin6_port) != NULL;
}

/* attach gives an SSL that is about to shake hands the session that its connection is for. NULL: it is
 * about something else, or comes after another one, and is not understood. */
static struct session *attach(SSL *ssl)
{
	static struct session around;
	struct session *s = session_of(ssl);
	BIO *b = SSL_get_wbio(ssl);
	int fd;
	if (s != NULL || num_hosts == 0 || b == NULL || b != SSL_get_rbio(ssl) || (fd = descriptor(b)) < 0)
		return s;
	if (goes_around(ssl, fd)) {
		shutdown(fd, SHUT_RDWR);
		around.fd = -1;
		around.state = NONE;
		return &around;
	}
	hold();
	if ((s = find(fd)) != NULL && s->bio == NULL) {
		s->bio = b;
		if (!SSL_set_ex_data(ssl, of_ssl, s))
			mistake("going on without memory");
	}
	unhold();
	return session_of(ssl);
}

/* stalled says why a BIO did nothing; 1: it has failed. */
static int stalled(struct session *s)
{
	s->error = !BIO_should_retry(s->bio) ? SSL_ERROR_SYSCALL : BIO_should_write(s->bio) ? SSL_ERROR_WANT_WRITE : SSL_ERROR_WANT_READ;
	return s->error == SSL_ERROR_SYSCALL;
}

static int flush(struct session *s)
{
	for (int n; s->at < s->len; s->at += (size_t)n)
		if ((n = BIO_write(s->bio, s->buffer + s->at, (int)(s->len - s->at))) <= 0) {
			stalled(s);
			return 0;
		}
	s->at = s->len = 0;
	return 1;
}

/* --- the handshake --- */

/* ask writes the head, unless the program wants what a shared session cannot give. */
static int ask(SSL *ssl, struct session *s)
{
	const char *sni = sni_of(ssl);
	const struct host *h = sni != NULL ? host_named(sni, s->host->port) : s->host->literal ? s->host : NULL;
	/* One that has spoken before it was asked has waited too long for this program: another one. */
	if (recv(s->fd, s->buffer, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 && !divert(s->fd, &s->is))
		return complain(s, library, AWAY);
	if (h == NULL)
		return complain(s, library, NO_HOST);
	if (SSL_get_certificate(ssl) != NULL || SSL_CTX_get_client_cert_cb(SSL_get_SSL_CTX(ssl)) != NULL ||
	    SSL_ct_is_enabled(ssl) || verifies_itself)
		return complain(s, library, SETTINGS);
	s->len = (size_t)snprintf(s->buffer, sizeof s->buffer, "CONNECT %s GATEHOUSE-TLS/1\r\n"
	    "Timeout: 1m\r\nEncoding: chunks\r\nRelease: http\r\nChain: yes\r\n%s\r\n", h->target, name);
	return 1;
}

/* read_answer reads the head of it, and leaves what comes behind that where it is. */
static int read_answer(struct session *s)
{
	for (char *end = NULL, *to; end == NULL || end + 4 > s->buffer + s->len;) {
		size_t room = sizeof s->buffer - s->len;
		ssize_t n = recv(s->fd, to = s->buffer + s->len, room, MSG_PEEK | MSG_DONTWAIT);
		if (room == 0)
			return complain(s, library, ANSWER);
		if (n > 0 && (end = memmem(s->buffer, s->len + (size_t)n, "\r\n\r\n", 4)) != NULL)
			n = end + 4 - to;
		if ((n = BIO_read(s->bio, to, n > 0 ? (int)n : 1)) <= 0)
			return stalled(s) ? complain(s, library, AWAY) : 0;
		s->len += (size_t)n;
	}
	s->buffer[s->len - 2] = '\0';
	return 1;
}

/* says tells whether a line of the answer is that. */
static int says(const struct session *s, const char *field, const char *value)
{
	char line[128];
	snprintf(line, sizeof line, "\r\n%s: %s\r\n", field, value);
	return strstr(s->buffer, line) != NULL;
}

/* refused says why there is no session. */
static int refused(SSL *ssl, struct session *s, unsigned code)
{
	if (strstr(s->buffer, "\r\nVerify: ") == NULL)
		return complain(s, library, (int)code);
	SSL_set_verify_result(ssl, says(s, "Verify", "unknown_authority") ? X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY :
	    says(s, "Verify", "hostname") ? X509_V_ERR_HOSTNAME_MISMATCH :
	    says(s, "Verify", "expired") ? X509_V_ERR_CERT_HAS_EXPIRED : X509_V_ERR_CERT_REJECTED);
	return complain(s, ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED);
}

/* allowed tells whether the program would have agreed to version and cipher, and notes them. */
static int allowed(SSL *ssl, struct session *s)
{
	int v = says(s, "Version", "1.3") ? TLS1_3_VERSION : says(s, "Version", "1.2") ? TLS1_2_VERSION : 0;
	long min = SSL_get_min_proto_version(ssl), max = SSL_get_max_proto_version(ssl);
	STACK_OF(SSL_CIPHER) *all = SSL_get_ciphers(ssl);
	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const char *standard = SSL_CIPHER_standard_name(sk_SSL_CIPHER_value(all, i));
		if (standard != NULL && says(s, "Cipher", standard))
			s->cipher = sk_SSL_CIPHER_value(all, i);
	}
	s->version = v == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2";
	return v != 0 && v >= min && (max == 0 || v <= max) && s->cipher != NULL &&
	    !(SSL_get_options(ssl) & (v == TLS1_3_VERSION ? SSL_OP_NO_TLSv1_3 : SSL_OP_NO_TLSv1_2));
}

/* certificates takes the server's, which are decoded behind the answer. */
static int certificates(struct session *s)
{
	unsigned char *to = (unsigned char *)s->buffer + s->len;
	s->chain = sk_X509_new_null();
	for (char *at = s->buffer; s->chain != NULL && (at = strstr(at, "\r\nCertificate: ")) != NULL;) {
		size_t n = strcspn(at += 15, "\r");
		int len = n < sizeof s->buffer - s->len ? EVP_DecodeBlock(to, (unsigned char *)at, (int)n) : -1;
		const unsigned char *der = to;
		X509 *cert = len > 0 ? d2i_X509(NULL, &der, len) : NULL;
		if (cert == NULL || sk_X509_push(s->chain, cert) <= 0) {
			X509_free(cert);
			return 0;
		}
	}
	return sk_X509_num(s->chain) > 0;
}

/* verify is what OpenSSL does with the certificates of a server, with all that the program has set. */
static int verify(SSL *ssl, struct session *s)
{
	X509_STORE *store = NULL;
	X509_STORE_CTX *v = X509_STORE_CTX_new();
	long result = X509_V_ERR_UNSPECIFIED;
	int good = 0;
	SSL_get0_verify_cert_store(ssl, &store);
	if (store == NULL)
		store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
	if (v != NULL && X509_STORE_CTX_init(v, store, sk_X509_value(s->chain, 0), s->chain) &&
	    X509_STORE_CTX_set_ex_data(v, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl) && X509_STORE_CTX_set_default(v, "ssl_server")) {
		X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(v);
		X509_VERIFY_PARAM_set_auth_level(param, SSL_get_security_level(ssl));
		X509_STORE_CTX_set0_dane(v, SSL_get0_dane(ssl));
		if (SSL_get_verify_callback(ssl) != NULL)
			X509_STORE_CTX_set_verify_cb(v, SSL_get_verify_callback(ssl));
		good = X509_VERIFY_PARAM_set1(param, SSL_get0_param(ssl)) && X509_verify_cert(v) > 0;
		result = X509_STORE_CTX_get_error(v);
		s->verified = X509_STORE_CTX_get1_chain(v);
	}
	X509_STORE_CTX_free(v);
	SSL_set_verify_result(ssl, good || result != X509_V_OK ? result : X509_V_ERR_UNSPECIFIED);
	return good || !(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) || complain(s, ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED);
}

/* understand takes an answer. */
static int understand(SSL *ssl, struct session *s)
{
	unsigned code;
	if (strncmp(s->buffer, "GATEHOUSE-TLS/1 200 ", 20) != 0)
		return sscanf(s->buffer, "GATEHOUSE-TLS/1 %3u ", &code) == 1 ? refused(ssl, s, code) : complain(s, library, ANSWER);
	if (!says(s, "Mode", "exclusive") || !says(s, "Verify", "ok"))
		return complain(s, library, ANSWER);
	if (!allowed(ssl, s))
		return complain(s, library, PROTOCOL);
	return certificates(s) ? verify(ssl, s) : complain(s, library, ANSWER);
}

/* shake goes on with a handshake, or looks whether the program still has what it began with; 1: it is done. */
static int shake(SSL *ssl, struct session *s)
{
	int was = s->state;
	if (was == NONE || SSL_get_wbio(ssl) != s->bio || SSL_get_rbio(ssl) != s->bio || !current(s))
		return complain(s, library, s->fd < 0 ? AROUND : OTHER);
	if (was == OPEN || was == OVER)
		return 1;
	s->state = NONE; /* but for what follows */
	if (was == ASKING && s->len == 0 && !ask(ssl, s))
		return 0;
	if (was == ASKING && !flush(s) && s->error != SSL_ERROR_SYSCALL) {
		s->state = ASKING;
		return 0;
	}
	if (was == ASKING) /* where tlsd does not hear it may have said why */
		s->at = s->len = 0;
	if (read_answer(s))
		s->state = understand(ssl, s) ? OPEN : NONE;
	else if (s->error != SSL_ERROR_SSL)
		s->state = ANSWERING;
	s->len = s->state == OPEN ? 0 : s->len;
	return s->state == OPEN;
}

/* --- bytes --- */

static int take(struct session *s, void *b, size_t n)
{
	int got = BIO_read(s->bio, b, (int)n);
	return got > 0 ? got : stalled(s) ? broke_off(s) : 0;
}

/* next_piece reads the length of one. That of an end stays: it is one however often it is asked for. */
static int next_piece(SSL *ssl, struct session *s)
{
	uint32_t length;
	for (int n; s->length_len < LENGTH; s->length_len += (size_t)n)
		if ((n = take(s, s->length + s->length_len, LENGTH - s->length_len)) <= 0)
			return 0;
	memcpy(&length, s->length, LENGTH);
	length = ntohl(length);
	if (length > MAX_CHUNK)
		return broke_off(s);
	s->left = length;
	if (length > 0) {
		s->length_len = 0;
		return 1;
	}
	SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
	s->error = SSL_ERROR_ZERO_RETURN;
	return 0;
}

static int session_read(SSL *ssl, struct session *s, void *b, size_t n, size_t *got)
{
	int r;
	*got = 0;
	if (!shake(ssl, s))
		return 0;
	s->error = s->state == OVER ? SSL_ERROR_ZERO_RETURN : SSL_ERROR_WANT_READ;
	if (s->state == OVER || n == 0 || (s->left == 0 && !next_piece(ssl, s)) || (r = take(s, b, n < s->left ? n : s->left)) <= 0)
		return 0;
	*got = (size_t)r;
	s->left -= (uint32_t)r;
	s->has += (uint64_t)r;
	return 1;
}

/* session_write is done when all has gone: a program that is told to come again does so with the same bytes. */
static int session_write(SSL *ssl, struct session *s, const char *b, size_t n, size_t *done)
{
	*done = 0;
	if (!shake(ssl, s))
		return 0;
	if (s->state == OVER || n < s->sent)
		return complain(s, ERR_LIB_SSL, s->state == OVER ? SSL_R_PROTOCOL_IS_SHUTDOWN : SSL_R_BAD_WRITE_RETRY);
	while (flush(s)) {
		size_t part = n - s->sent < MAX_PIECE ? n - s->sent : MAX_PIECE;
		uint32_t length = htonl((uint32_t)part);
		if (part == 0) {
			s->sent = 0;
			*done = n;
			return 1;
		}
		memcpy(s->buffer, &length, LENGTH);
		memcpy(s->buffer + LENGTH, b + s->sent, part);
		s->len = LENGTH + part;
		s->sent += part;
	}
	return s->error == SSL_ERROR_SYSCALL ? complain(s, library, AWAY) : 0;
}

/* --- OpenSSL's --- */

#define INSTEAD_OF(find, type, f, params, args, mine) \
	type f params \
	{ \
		struct session *s = find(ssl); \
		return s == NULL ? REAL(f) args : (mine); \
	}
#define INSTEAD(type, f, params, args, mine) INSTEAD_OF(session_of, type, f, params, args, mine)
#define TELLS(type, f, mine) INSTEAD(type, f, (const SSL *ssl), (ssl), mine)

static int failed(const struct session *s) { return s->error == SSL_ERROR_ZERO_RETURN ? 0 : -1; }
static X509 *own(X509 *cert) { return cert != NULL && X509_up_ref(cert) ? cert : NULL; }

INSTEAD_OF(attach, int, SSL_do_handshake, (SSL *ssl), (ssl), shake(ssl, s) ? 1 : -1)
INSTEAD_OF(attach, int, SSL_connect, (SSL *ssl), (ssl), shake(ssl, s) ? 1 : -1)
INSTEAD(int, SSL_read_ex, (SSL *ssl, void *b, size_t n, size_t *got), (ssl, b, n, got), session_read(ssl, s, b, n, got))
INSTEAD(int, SSL_write_ex, (SSL *ssl, const void *b, size_t n, size_t *done), (ssl, b, n, done), session_write(ssl, s, b, n, done))
INSTEAD(int, SSL_read, (SSL *ssl, void *b, int n), (ssl, b, n), session_read(ssl, s, b, n > 0 ? n : 0, &s->took) ? (int)s->took : failed(s))
INSTEAD(int, SSL_write, (SSL *ssl, const void *b, int n), (ssl, b, n), session_write(ssl, s, b, n > 0 ? n : 0, &s->took) ? (int)s->took : failed(s))
INSTEAD(int, SSL_peek, (SSL *ssl, void *b, int n), (ssl, b, n), complain(s, library, SETTINGS) - 1)
INSTEAD(int, SSL_peek_ex, (SSL *ssl, void *b, size_t n, size_t *got), (ssl, b, n, got), complain(s, library, SETTINGS))
INSTEAD(SSL *, SSL_dup, (SSL *ssl), (ssl), NULL)
INSTEAD(int, SSL_clear, (SSL *ssl), (ssl), complain(s, library, SETTINGS))
INSTEAD(int, SSL_shutdown, (SSL *ssl), (ssl), (let_go(s), s->state == OVER ? 1 : -1))
INSTEAD(int, SSL_get_error, (const SSL *ssl, int r), (ssl, r), r > 0 ? SSL_ERROR_NONE : s->error)
TELLS(int, SSL_pending, 0) /* whatever there is the BIO has */
TELLS(int, SSL_is_init_finished, s->state == OPEN || s->state == OVER)
TELLS(const char *, SSL_get_version, s->version != NULL ? s->version : "unknown")
TELLS(const SSL_CIPHER *, SSL_get_current_cipher, s->cipher)
TELLS(STACK_OF(X509) *, SSL_get_peer_cert_chain, s->chain)
TELLS(STACK_OF(X509) *, SSL_get0_verified_chain, s->verified)
TELLS(X509 *, SSL_get0_peer_certificate, sk_X509_value(s->chain, 0))
TELLS(X509 *, SSL_get1_peer_certificate, own(sk_X509_value(s->chain, 0)))

/* SSL_CTX_set_cert_verify_callback: nobody can be asked later for what was set. */
void SSL_CTX_set_cert_verify_callback(SSL_CTX *ctx, int (*f)(X509_STORE_CTX *, void *), void *arg)
{
	verifies_itself |= f != NULL;
	REAL(SSL_CTX_set_cert_verify_callback)(ctx, f, arg);
}

/* --- configuration --- */

static int parse_host(const char *s, struct host *h)
{
	const struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST};
	struct addrinfo *list;
	unsigned port = 0;
	char more;
	if ((sscanf(s, "[%253[^]]]:%5u%c", h->name, &port, &more) != 2 && sscanf(s, "%253[^:[]:%5u%c", h->name, &port, &more) != 2) ||
	    port == 0 || port > 65535 || strlen(s) >= sizeof h->target)
		return 0;
	strcpy(h->target, s);
	h->port = htons((in_port_t)port);
	h->literal = getaddrinfo(h->name, NULL, &numeric, &list) == 0; /* which remembers it */
	if (h->literal)
		freeaddrinfo(list);
	return h->literal || *s != '[';
}

__attribute__((constructor)) static void configure(void)
{
	const char *how = getenv("GATEHOUSE_TLS"), *list = getenv("GATEHOUSE_TLS_HOSTS");
	const char *session = getenv("GATEHOUSE_TLS_SESSION"), *path = getenv("GATEHOUSE_TLS_SOCKET");
	char *word, *rest;
	if (how == NULL || strcmp(how, "unshared") == 0)
		return;
	if (strcmp(how, "shared") != 0)
		mistake("GATEHOUSE_TLS");
	if (session != NULL && *session != '\0' && snprintf(name, sizeof name, "Session: %s\r\n", session) >= (int)sizeof name)
		mistake("GATEHOUSE_TLS_SESSION");
	if (path != NULL && (*path == '\0' || snprintf(tlsd.sun_path, sizeof tlsd.sun_path, "%s", path) >= (int)sizeof tlsd.sun_path))
		mistake("GATEHOUSE_TLS_SOCKET");
	library = ERR_get_next_error_library();
	reasons[0].error = ERR_PACK(library, 0, 0);
	ERR_load_strings(library, reasons);
	of_ssl = SSL_get_ex_new_index(0, NULL, NULL, NULL, drop);
	for (word = strtok_r(strdupa(list != NULL ? list : ""), ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest))
		if (num_hosts == MAX_HOSTS || !parse_host(word, &hosts[num_hosts++]))
			mistake("GATEHOUSE_TLS_HOSTS");
	if (num_hosts == 0)
		mistake("GATEHOUSE_TLS_HOSTS");
	pthread_atfork(hold, unhold, unhold);
}
