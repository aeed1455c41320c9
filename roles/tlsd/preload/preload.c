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
 * A session is let go when the program is done with its SSL, or ends, between one HTTP/1.1 exchange
 * and the next (http.h). Anywhere else nobody knows what it is in the middle of, and it ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "http.h"

enum { MAX_HOSTS = 64, MAX_ADDRESSES = 32, MAX_SESSION = 128, MAX_HOST = 253, MAX_ANSWER = 64 << 10 };
enum { LENGTH = 4, MAX_CHUNK = 1 << 20, MAX_PIECE = 16 << 10 }; /* MAX_PIECE is written at once */
#define RELEASE 0xFFFFFFFFu

/* Reasons of errors; those from 400 on are tlsd's statuses. */
enum { AWAY = 100, NO_HOST, SETTINGS, ANSWER, PROTOCOL, OTHER, NONE_LEFT, AROUND };
static ERR_STRING_DATA reasons[] = {
	{0, "tlsd"},
	{AWAY, "tlsd is away"},
	{NO_HOST, "the server's name is not in GATEHOUSE_TLS_HOSTS"},
	{SETTINGS, "the program has settings that no shared session can meet"},
	{ANSWER, "tlsd's answer makes no sense"},
	{PROTOCOL, "the session has a version or cipher that the program does not allow"},
	{OTHER, "the connection is not what it was, or another process's"},
	{NONE_LEFT, "the connection has had its session"},
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
	in_port_t port;                         /* in network order */
	int literal, looked_up;                 /* literal: an address and no name */
	struct in6_addr address[MAX_ADDRESSES]; /* those of IPv4 mapped */
	unsigned addresses;                     /* that there have been */
};

/* link is a connection to tlsd that the program believes to be one to a host. */
struct link {
	struct link *next;
	int fd, used; /* used: an SSL has been given it */
	struct stat is;
	pid_t pid;
	unsigned long long hosts; /* a bit for each that it may be */
	struct session *session;
};

/* session is what an SSL has instead of TLS. */
struct session {
	struct link *link; /* NULL: there is none, or another SSL has had it */
	int why;           /* there is none */
	BIO *bio;
	enum { ASKING, ANSWERING, OPEN, OVER, NONE } state;
	int error; /* for SSL_get_error */
	struct exchange http;
	unsigned char out[LENGTH + MAX_PIECE];
	size_t out_at, out_len, sent; /* sent: of what is being written, that is in pieces */
	int deaf;                     /* tlsd takes no more */
	char *in;                     /* the answer, and what came behind it */
	size_t in_at, in_len;
	unsigned char length[LENGTH]; /* of the next piece */
	size_t length_len;
	uint32_t left; /* of a piece */
	uint64_t has;  /* bytes that the program has read */
	STACK_OF(X509) *chain, *verified;
	const SSL_CIPHER *cipher;
	int version;
};

static struct host hosts[MAX_HOSTS];
static int num_hosts; /* 0: everything is left alone */
static char name[MAX_SESSION + 1];
static struct sockaddr_un tlsd = {AF_UNIX, "/run/gatehouse/tlsd.sock"};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of links, and of addresses of hosts */
static struct link *links;
static int of_ssl = -1, of_ctx = -1, library; /* indexes of ex_data; that of errors */
static __thread int probing, probed;

static void hold(void) { pthread_mutex_lock(&lock); }
static void unhold(void) { pthread_mutex_unlock(&lock); }

/* mistake ends a program that would have no session, or another one than was meant. */
static void mistake(const char *what)
{
	fprintf(stderr, "gatehouse-preload: %s makes no sense\n", what);
	_exit(127);
}

static void *next(const char *symbol)
{
	void *f = dlsym(RTLD_NEXT, symbol);
	if (f == NULL)
		mistake(symbol);
	return f;
}

/* REAL is the function that the program meant. */
#define REAL(f) ({ \
	static void *real; \
	void *is = __atomic_load_n(&real, __ATOMIC_RELAXED); \
	if (is == NULL) \
		__atomic_store_n(&real, is = next(#f), __ATOMIC_RELAXED); \
	(__typeof__(&f))is; \
})

/* --- configuration --- */

static int printable(const char *s, size_t max)
{
	size_t n = strlen(s);
	while (n > 0 && n <= max && s[n - 1] > ' ' && s[n - 1] <= '~')
		n--;
	return n == 0;
}

static void map_four(struct in6_addr *a, const struct in_addr *four)
{
	memset(a, 0, sizeof *a);
	a->s6_addr[10] = a->s6_addr[11] = 0xFF;
	memcpy(&a->s6_addr[12], four, sizeof *four);
}

static int parse_host(char *s, struct host *h)
{
	char *colon = strrchr(s, ':'), *end;
	unsigned long port = colon != NULL && colon[1] >= '1' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
	struct in_addr four;
	if (port == 0 || port > 65535 || *end != '\0' || !printable(s, sizeof h->target - 1))
		return 0;
	h->port = htons((in_port_t)port);
	strcpy(h->target, s);
	*colon = '\0';
	if (*s == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		s++;
	}
	if (*s == '\0' || strlen(s) > MAX_HOST)
		return 0;
	strcpy(h->name, s);
	h->addresses = 1;
	h->literal = inet_pton(AF_INET6, s, &h->address[0]) == 1;
	if (!h->literal && (h->literal = inet_pton(AF_INET, s, &four) == 1))
		map_four(&h->address[0], &four);
	h->addresses = h->literal;
	return h->literal || strchr(s, ':') == NULL;
}

__attribute__((constructor)) static void configure(void)
{
	const char *how = getenv("GATEHOUSE_TLS"), *list = getenv("GATEHOUSE_TLS_HOSTS");
	const char *session = getenv("GATEHOUSE_TLS_SESSION"), *path = getenv("GATEHOUSE_TLS_SOCKET");
	char *copy, *word, *rest;
	int n = 0;
	if (how == NULL || strcmp(how, "unshared") == 0)
		return;
	if (strcmp(how, "shared") != 0)
		mistake("GATEHOUSE_TLS");
	if (session != NULL && (!printable(session, MAX_SESSION) || strchr(session, '*') != NULL))
		mistake("GATEHOUSE_TLS_SESSION");
	strcpy(name, session != NULL ? session : "");
	if (path != NULL && (*path == '\0' || strlen(path) >= sizeof tlsd.sun_path))
		mistake("GATEHOUSE_TLS_SOCKET");
	if (path != NULL)
		strcpy(tlsd.sun_path, path);
	copy = list != NULL ? strdup(list) : NULL;
	for (word = copy != NULL ? strtok_r(copy, ",", &rest) : NULL; word != NULL; word = strtok_r(NULL, ",", &rest))
		if (n == MAX_HOSTS || !parse_host(word, &hosts[n++]))
			mistake("GATEHOUSE_TLS_HOSTS");
	if (n == 0)
		mistake("GATEHOUSE_TLS_HOSTS");
	free(copy);
	num_hosts = n;
	pthread_atfork(hold, unhold, unhold);
}

/* --- connections --- */

static int address_of(const void *sa, struct in6_addr *a, in_port_t *port)
{
	const struct sockaddr_in *four = sa;
	const struct sockaddr_in6 *six = sa;
	*port = four->sin_port; /* in either at the same place */
	if (four->sin_family == AF_INET)
		map_four(a, &four->sin_addr);
	else if (six->sin6_family == AF_INET6)
		*a = six->sin6_addr;
	else
		return 0;
	return 1;
}

static int has_address(const struct host *h, const struct in6_addr *a)
{
	for (unsigned i = 0; i < h->addresses && i < MAX_ADDRESSES; i++)
		if (memcmp(&h->address[i], a, sizeof *a) == 0)
			return 1;
	return 0;
}

/* getaddrinfo is how most programs find out where a host is. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	int r = REAL(getaddrinfo)(node, service, hints, list);
	struct in6_addr a;
	in_port_t port;
	if (r != 0 || node == NULL || num_hosts == 0)
		return r;
	hold();
	for (struct host *h = hosts; h < hosts + num_hosts; h++)
		for (const struct addrinfo *at = strcasecmp(h->name, node) == 0 ? *list : NULL; at != NULL; at = at->ai_next)
			if (address_of(at->ai_addr, &a, &port) && !has_address(h, &a))
				h->address[h->addresses++ % MAX_ADDRESSES] = a;
	unhold();
	return r;
}

/* look_up is for programs that know where a host is by other means. */
static void look_up(struct host *h)
{
	struct addrinfo *list;
	if (!__atomic_exchange_n(&h->looked_up, 1, __ATOMIC_RELAXED) && h->addresses == 0 && getaddrinfo(h->name, NULL, NULL, &list) == 0)
		freeaddrinfo(list);
}

/* hosts_at gives a bit for each host that an address may be. */
static unsigned long long hosts_at(const struct sockaddr *sa)
{
	struct in6_addr a;
	in_port_t port;
	unsigned long long which = 0;
	if (!address_of(sa, &a, &port))
		return 0;
	for (struct host *h = hosts; h < hosts + num_hosts; h++)
		if (h->port == port)
			look_up(h);
	hold();
	for (int i = 0; i < num_hosts; i++)
		if (hosts[i].port == port && has_address(&hosts[i], &a))
			which |= 1ull << i;
	unhold();
	return which;
}

/* current tells whether a descriptor is still that connection, and this process the one that made it. */
static int current(const struct link *l)
{
	struct stat is;
	return l->pid == getpid() && fstat(l->fd, &is) == 0 && is.st_dev == l->is.st_dev && is.st_ino == l->is.st_ino;
}

/* find gives the connection of a descriptor. The lock is held. */
static struct link *find(int fd)
{
	struct link *l = links;
	while (l != NULL && (l->fd != fd || !current(l)))
		l = l->next;
	return l;
}

static int is_link(int fd)
{
	int is;
	hold();
	is = find(fd) != NULL;
	unhold();
	return is;
}

/* keep adds a connection, and forgets those that are gone. */
static void keep(struct link *new)
{
	hold();
	for (struct link **at = &links, *l; (l = *at) != NULL;) {
		if (l->session != NULL || current(l)) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		free(l);
	}
	new->next = links;
	links = new;
	unhold();
}

/* divert puts a connection to tlsd in the place of a socket. */
static int divert(struct link *l)
{
	int new = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), kept = fcntl(l->fd, F_GETFD);
	int good = new >= 0 && fcntl(new, F_SETFL, fcntl(l->fd, F_GETFL)) == 0 &&
	    REAL(connect)(new, (struct sockaddr *)&tlsd, sizeof tlsd) == 0 && fstat(new, &l->is) == 0 &&
	    dup3(new, l->fd, kept & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
	if (new >= 0)
		REAL(close)(new);
	return good;
}

int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t len)
{
	const struct sockaddr *sa = to.__sockaddr__;
	int whole = sa != NULL && len >= (sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	unsigned long long which = num_hosts > 0 && whole ? hosts_at(sa) : 0;
	struct link *l;
	int type = 0;
	socklen_t n = sizeof type;
	if (which == 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) != 0 || type != SOCK_STREAM)
		return REAL(connect)(fd, to, len);
	l = calloc(1, sizeof *l);
	if (l != NULL) {
		*l = (struct link){.fd = fd, .pid = getpid(), .hosts = which};
		if (!is_link(fd) && divert(l)) {
			keep(l);
			return 0;
		}
		free(l);
	}
	errno = is_link(fd) ? EISCONN : ECONNREFUSED;
	return -1;
}

/* setsockopt: of TCP there is nothing to be set here, and no program is to fail for it. */
int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	if (num_hosts > 0 && (level == IPPROTO_TCP || level == IPPROTO_IP || level == IPPROTO_IPV6) && is_link(fd))
		return 0;
	return REAL(setsockopt)(fd, level, option, value, len);
}

/* send shows what socket a BIO of the program's own writes to: asked to write nothing it comes by here. */
ssize_t send(int fd, const void *b, size_t n, int flags)
{
	if (!probing || n > 0)
		return REAL(send)(fd, b, n, flags);
	probed = fd;
	return 0;
}

static int descriptor(BIO *b)
{
	size_t n;
	if (BIO_method_type(b) & BIO_TYPE_DESCRIPTOR)
		return (int)BIO_get_fd(b, NULL);
	probed = -1;
	probing = 1;
	ERR_set_mark();
	BIO_write_ex(b, "", 0, &n);
	ERR_pop_to_mark();
	probing = 0;
	return probed;
}

/* --- sessions --- */

/* complain says why something fails, where OpenSSL says it. */
static int complain(struct session *s, int lib, int reason, const char *format, ...)
{
	va_list args;
	ERR_new();
	ERR_set_debug(OPENSSL_FILE, OPENSSL_LINE, OPENSSL_FUNC);
	va_start(args, format);
	ERR_vset_error(lib, reason, format, args);
	va_end(args);
	s->error = SSL_ERROR_SSL;
	return 0;
}

static int broke_off(struct session *s) { return complain(s, ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING, "tlsd: the session broke off"); }

static uint32_t get32(const void *b)
{
	uint32_t n;
	memcpy(&n, b, sizeof n);
	return ntohl(n);
}

/* let_go gives the session to whoever is next, if the program is in the middle of nothing. The lock is held. */
static void let_go(struct session *s)
{
	uint32_t b[3] = {RELEASE, htonl((uint32_t)(s->has >> 32)), htonl((uint32_t)s->has)};
	int was = s->state;
	s->state = was == OPEN ? OVER : was;
	if (was == OPEN && s->out_len == 0 && s->left == 0 && s->length_len == 0 && s->in_at == s->in_len && http_between(&s->http) && current(s->link))
		REAL(send)(s->link->fd, b, sizeof b, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* close: Python has its sockets go before its SSLs. */
int close(int fd)
{
	struct link *l;
	if (num_hosts > 0) {
		hold();
		if ((l = find(fd)) != NULL && l->session != NULL)
			let_go(l->session);
		unhold();
	}
	return REAL(close)(fd);
}

__attribute__((destructor)) static void leave_all(void)
{
	hold();
	for (struct link *l = links; l != NULL; l = l->next)
		if (l->session != NULL)
			let_go(l->session);
	unhold();
}

/* drop comes with SSL_free. */
static void drop(void *ssl, void *p, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	struct session *s = p;
	(void)ssl, (void)data, (void)index, (void)argl, (void)argp;
	if (s == NULL)
		return;
	if (s->link != NULL) {
		hold();
		let_go(s);
		s->link->session = NULL;
		unhold();
	}
	sk_X509_pop_free(s->chain, X509_free);
	sk_X509_pop_free(s->verified, X509_free);
	free(s->in);
	free(s);
}

/* no_copy: that of an SSL has no session. */
static int no_copy(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **p, int index, long argl, void *argp)
{
	(void)to, (void)from, (void)index, (void)argl, (void)argp;
	*p = NULL;
	return 1;
}

static void prepare(void)
{
	if (OPENSSL_version_major() != 3)
		mistake("this version of OpenSSL");
	library = ERR_get_next_error_library();
	reasons[0].error = ERR_PACK(library, 0, 0);
	ERR_load_strings(library, reasons);
	of_ctx = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	of_ssl = SSL_get_ex_new_index(0, NULL, NULL, no_copy, drop);
}

static int prepared(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	if (num_hosts > 0)
		pthread_once(&once, prepare);
	return of_ssl >= 0;
}

static struct session *session_of(const SSL *ssl) { return num_hosts > 0 && of_ssl >= 0 ? SSL_get_ex_data(ssl, of_ssl) : NULL; }

/* goes_around tells whether an SSL is for a host of ours, on a connection that is not tlsd's. */
static int goes_around(SSL *ssl, int fd)
{
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct sockaddr_in6 peer;
	socklen_t n = sizeof peer;
	if (sni == NULL || getpeername(fd, (struct sockaddr *)&peer, &n) != 0)
		return 0;
	for (struct host *h = hosts; h < hosts + num_hosts; h++)
		if (strcasecmp(h->name, sni) == 0 && h->port == peer.sin6_port)
			return 1;
	return 0;
}

/* attach gives an SSL that is about to shake hands the session that its connection is for; NULL: it is
 * about something else. */
static struct session *attach(SSL *ssl, int is_client)
{
	struct session *s = session_of(ssl);
	BIO *b = SSL_get_wbio(ssl);
	struct link *l;
	int fd;
	if (s != NULL || !is_client || !prepared() || b == NULL || b != SSL_get_rbio(ssl) || (fd = descriptor(b)) < 0)
		return s;
	hold();
	l = find(fd);
	if ((l != NULL || goes_around(ssl, fd)) && ((s = calloc(1, sizeof *s)) == NULL || !SSL_set_ex_data(ssl, of_ssl, s)))
		mistake("going on without memory");
	if (s != NULL) {
		s->bio = b;
		s->state = NONE;
		s->why = l != NULL ? NONE_LEFT : AROUND;
	}
	if (l != NULL && !l->used) {
		s->link = l;
		s->state = ASKING;
		l->session = s;
		l->used = 1;
	}
	unhold();
	return s;
}

/* stalled says why a BIO did nothing; 1: it has failed. */
static int stalled(struct session *s)
{
	s->error = BIO_should_write(s->bio) ? SSL_ERROR_WANT_WRITE : SSL_ERROR_WANT_READ;
	return !BIO_should_retry(s->bio);
}

static int flush(struct session *s)
{
	for (int n; s->out_at < s->out_len; s->out_at += (size_t)n)
		if ((n = BIO_write(s->bio, s->out + s->out_at, (int)(s->out_len - s->out_at))) <= 0) {
			s->deaf = stalled(s);
			return 0;
		}
	s->out_at = s->out_len = 0;
	return 1;
}

/* --- the handshake --- */

/* choose finds the host that the program means: a name must be the one that it asks the server for. */
static const struct host *choose(const struct link *l, const char *sni)
{
	const struct host *found = NULL;
	for (int i = 0; i < num_hosts; i++)
		if (l->hosts >> i & 1 && sni != NULL && strcasecmp(hosts[i].name, sni) == 0)
			return &hosts[i];
		else if (l->hosts >> i & 1 && hosts[i].literal)
			found = &hosts[i];
	return found;
}

/* ask writes the head, unless the program wants what a shared session cannot give. */
static int ask(SSL *ssl, struct session *s)
{
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const struct host *h = choose(s->link, sni);
	SSL_CTX *ctx = SSL_get_SSL_CTX(ssl);
	/* One that has spoken before it was asked has waited too long for this program: another one. */
	if (recv(s->link->fd, s->length, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 && !divert(s->link))
		return complain(s, library, AWAY, "%s", tlsd.sun_path);
	if (h == NULL || (sni != NULL && !printable(sni, MAX_HOST)))
		return complain(s, library, NO_HOST, "%s", sni != NULL ? sni : "no name");
	if (SSL_get_certificate(ssl) != NULL || SSL_CTX_get_client_cert_cb(ctx) != NULL)
		return complain(s, library, SETTINGS, "a certificate of its own");
	if (SSL_ct_is_enabled(ssl) || SSL_CTX_get_ex_data(ctx, of_ctx) != NULL)
		return complain(s, library, SETTINGS, "a verification of its own");
	if ((s->in = malloc(MAX_ANSWER)) == NULL)
		return complain(s, ERR_LIB_SSL, ERR_R_MALLOC_FAILURE, NULL);
	s->out_len = (size_t)snprintf((char *)s->out, sizeof s->out,
	    "CONNECT %s GATEHOUSE-TLS/1\r\nTimeout: 1m\r\nEncoding: chunks\r\nChain: yes\r\n%s%s%s%s%s%s\r\n", h->target,
	    sni ? "SNI: " : "", sni ? sni : "", sni ? "\r\n" : "", name[0] ? "Session: " : "", name, name[0] ? "\r\n" : "");
	return 1;
}

/* read_answer reads up to the end of the head, and what has come behind it. */
static int read_answer(struct session *s)
{
	char *end;
	int n;
	while ((end = memmem(s->in, s->in_len, "\r\n\r\n", 4)) == NULL) {
		if (s->in_len == MAX_ANSWER)
			return complain(s, library, ANSWER, "it is too long");
		n = BIO_read(s->bio, s->in + s->in_len, (int)(MAX_ANSWER - s->in_len));
		if (n <= 0)
			return stalled(s) ? complain(s, library, AWAY, "%s", tlsd.sun_path) : 0;
		s->in_len += (size_t)n;
	}
	end[2] = '\0';
	s->in_at = (size_t)(end + 4 - s->in);
	return 1;
}

/* certificate adds one of the server's. */
static int certificate(struct session *s, const char *text)
{
	size_t n = strlen(text);
	unsigned char *der = malloc(n + 1);
	const unsigned char *at = der;
	X509 *cert = NULL;
	int len = der != NULL ? EVP_DecodeBlock(der, (const unsigned char *)text, (int)n) : -1, good;
	for (; len > 0 && text[n - 1] == '='; n--)
		len--;
	if (s->chain == NULL)
		s->chain = sk_X509_new_null();
	good = len > 0 && s->chain != NULL && (cert = d2i_X509(NULL, &at, len)) != NULL && at == der + len && sk_X509_push(s->chain, cert) > 0;
	if (!good)
		X509_free(cert);
	free(der);
	return good;
}

/* An answer, as far as it is of use. */
enum { MODE, VERSION, CIPHER, VERIFY, REASON, NUM_FIELDS };
static const char *const fields[] = {"Mode", "Version", "Cipher", "Verify", "Reason"};

static int parse(struct session *s, int *code, const char *value[NUM_FIELDS])
{
	char *rest, *line = strtok_r(s->in, "\r\n", &rest), *to;
	if (line == NULL || sscanf(line, "GATEHOUSE-TLS/1 %3d ", code) != 1)
		return 0;
	while ((line = strtok_r(NULL, "\r\n", &rest)) != NULL) {
		if ((to = strstr(line, ": ")) == NULL)
			return 0;
		*to = '\0';
		to += 2;
		for (int i = 0; i < NUM_FIELDS; i++)
			if (strcmp(line, fields[i]) == 0)
				value[i] = to;
		if (strcmp(line, "Certificate") == 0 && !certificate(s, to))
			return 0;
	}
	return 1;
}

/* refused says why there is no session. */
static int refused(SSL *ssl, struct session *s, int code, const char *verdict, const char *reason)
{
	if (verdict == NULL)
		return complain(s, library, code, "%s", reason != NULL ? reason : "");
	SSL_set_verify_result(ssl, strcmp(verdict, "unknown_authority") == 0 ? X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY :
	    strcmp(verdict, "hostname") == 0 ? X509_V_ERR_HOSTNAME_MISMATCH :
	    strcmp(verdict, "expired") == 0 ? X509_V_ERR_CERT_HAS_EXPIRED : X509_V_ERR_CERT_REJECTED);
	return complain(s, ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED, "tlsd: %s", reason != NULL ? reason : verdict);
}

/* allowed tells whether the program would have agreed to version and cipher, and notes them. */
static int allowed(SSL *ssl, struct session *s, const char *version, const char *cipher)
{
	int v = s->version = strcmp(version, "1.3") == 0 ? TLS1_3_VERSION : strcmp(version, "1.2") == 0 ? TLS1_2_VERSION : 0;
	long min = SSL_get_min_proto_version(ssl), max = SSL_get_max_proto_version(ssl);
	STACK_OF(SSL_CIPHER) *all = SSL_get_ciphers(ssl);
	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const char *standard = SSL_CIPHER_standard_name(sk_SSL_CIPHER_value(all, i));
		if (standard != NULL && strcmp(standard, cipher) == 0)
			s->cipher = sk_SSL_CIPHER_value(all, i);
	}
	return v != 0 && v >= min && (max == 0 || v <= max) && s->cipher != NULL &&
	    !(SSL_get_options(ssl) & (v == TLS1_3_VERSION ? SSL_OP_NO_TLSv1_3 : SSL_OP_NO_TLSv1_2));
}

/* verify is what OpenSSL does with the certificates of a server, with all that the program has set. */
static int verify(SSL *ssl, struct session *s)
{
	X509_STORE *store = NULL;
	X509_STORE_CTX *v = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	long result = X509_V_ERR_UNSPECIFIED;
	int good = 0;
	SSL_get0_verify_cert_store(ssl, &store);
	if (store == NULL)
		store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
	if (v != NULL && X509_STORE_CTX_init(v, store, sk_X509_value(s->chain, 0), s->chain) &&
	    X509_STORE_CTX_set_ex_data(v, SSL_get_ex_data_X509_STORE_CTX_idx(), ssl) && X509_STORE_CTX_set_default(v, "ssl_server")) {
		param = X509_STORE_CTX_get0_param(v);
		X509_VERIFY_PARAM_set_auth_level(param, SSL_get_security_level(ssl));
		X509_STORE_CTX_set0_dane(v, SSL_get0_dane(ssl));
		if (X509_VERIFY_PARAM_set1(param, SSL_get0_param(ssl))) {
			if (SSL_get_verify_callback(ssl) != NULL)
				X509_STORE_CTX_set_verify_cb(v, SSL_get_verify_callback(ssl));
			good = X509_verify_cert(v) > 0;
			result = X509_STORE_CTX_get_error(v);
			s->verified = X509_STORE_CTX_get1_chain(v);
		}
	}
	X509_STORE_CTX_free(v);
	SSL_set_verify_result(ssl, good || result != X509_V_OK ? result : X509_V_ERR_UNSPECIFIED);
	return good || !(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) ||
	    complain(s, ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED, "%s", X509_verify_cert_error_string(result));
}

/* understand takes an answer. */
static int understand(SSL *ssl, struct session *s)
{
	const char *is[NUM_FIELDS] = {NULL};
	int code;
	if (!parse(s, &code, is))
		return complain(s, library, ANSWER, "it is malformed");
	if (code != 200)
		return refused(ssl, s, code, is[VERIFY], is[REASON]);
	if (!is[MODE] || strcmp(is[MODE], "exclusive") != 0 || !is[VERIFY] || strcmp(is[VERIFY], "ok") != 0 || !is[VERSION] || !is[CIPHER] || !s->chain)
		return complain(s, library, ANSWER, "it lacks something");
	return allowed(ssl, s, is[VERSION], is[CIPHER]) ? verify(ssl, s) : complain(s, library, PROTOCOL, "TLS %s, %s", is[VERSION], is[CIPHER]);
}

/* shake goes on with a handshake, or looks whether the program still has what it began with; 1: it is done. */
static int shake(SSL *ssl, struct session *s)
{
	int was = s->state;
	if (was == NONE)
		return complain(s, library, s->why, NULL);
	if (SSL_get_wbio(ssl) != s->bio || SSL_get_rbio(ssl) != s->bio || !current(s->link))
		return complain(s, library, OTHER, NULL);
	if (was == OPEN || was == OVER)
		return 1;
	s->state = NONE;
	if (was == ASKING && s->in == NULL && !ask(ssl, s))
		return 0;
	if (was == ASKING && !flush(s) && !s->deaf)
		s->state = ASKING;
	else if (s->error = SSL_ERROR_NONE, read_answer(s)) /* where tlsd does not hear it may have said why */
		s->state = understand(ssl, s) ? OPEN : NONE;
	else if (s->error != SSL_ERROR_SSL)
		s->state = ANSWERING;
	return s->state == OPEN;
}

/* --- bytes --- */

/* take reads what has come behind the answer, then from the BIO. */
static int take(struct session *s, void *b, size_t n)
{
	size_t has = s->in_len - s->in_at;
	int got;
	if (has > 0) {
		n = n < has ? n : has;
		memcpy(b, s->in + s->in_at, n);
		s->in_at += n;
		return (int)n;
	}
	got = BIO_read(s->bio, b, (int)n);
	return got > 0 ? got : stalled(s) ? broke_off(s) : 0;
}

/* next_piece reads the length of one. That of an end stays: it is one however often it is asked for. */
static int next_piece(SSL *ssl, struct session *s)
{
	for (int n; s->length_len < LENGTH; s->length_len += (size_t)n)
		if ((n = take(s, s->length + s->length_len, LENGTH - s->length_len)) <= 0)
			return 0;
	s->left = get32(s->length);
	if (s->left > 0 && s->left <= MAX_CHUNK) {
		s->length_len = 0;
		return 1;
	}
	s->left = 0;
	if (get32(s->length) != 0)
		return broke_off(s);
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
	http_pass(&s->http, &s->http.in, b, *got);
	return 1;
}

/* session_write is done when all has gone: a program that is told to come again does so with the same bytes. */
static int session_write(SSL *ssl, struct session *s, const char *b, size_t n, size_t *done)
{
	*done = 0;
	if (!shake(ssl, s))
		return 0;
	if (s->state == OVER || n < s->sent)
		return complain(s, ERR_LIB_SSL, s->state == OVER ? SSL_R_PROTOCOL_IS_SHUTDOWN : SSL_R_BAD_WRITE_RETRY, NULL);
	while (flush(s)) {
		size_t part = n - s->sent < MAX_PIECE ? n - s->sent : MAX_PIECE;
		uint32_t length = htonl((uint32_t)part);
		if (part == 0) {
			s->sent = 0;
			*done = n;
			return 1;
		}
		memcpy(s->out, &length, LENGTH);
		memcpy(s->out + LENGTH, b + s->sent, part);
		http_pass(&s->http, &s->http.out, b + s->sent, part);
		s->out_len = LENGTH + part;
		s->sent += part;
	}
	return s->deaf ? complain(s, library, AWAY, "it takes no more") : 0;
}

/* pending is what of the next piece has come behind the answer; all else the BIO still has. */
static int pending(const struct session *s)
{
	size_t has = s->in_len - s->in_at, piece = s->left;
	if (s->state == OPEN && piece == 0 && s->length_len == 0 && has > LENGTH && get32(s->in + s->in_at) <= MAX_CHUNK) {
		has -= LENGTH;
		piece = get32(s->in + s->in_at);
	}
	return s->state == OPEN ? (int)(piece < has ? piece : has) : 0;
}

/* --- OpenSSL's --- */

#define INSTEAD(type, f, params, args, mine) \
	type f params \
	{ \
		struct session *s = session_of(ssl); \
		return s == NULL ? REAL(f) args : (mine); \
	}
#define TELLS(type, f, mine) INSTEAD(type, f, (const SSL *ssl), (ssl), mine)

int SSL_do_handshake(SSL *ssl)
{
	struct session *s = attach(ssl, !SSL_is_server(ssl));
	return s == NULL ? REAL(SSL_do_handshake)(ssl) : shake(ssl, s) ? 1 : -1;
}

int SSL_connect(SSL *ssl)
{
	struct session *s = attach(ssl, 1);
	return s == NULL ? REAL(SSL_connect)(ssl) : shake(ssl, s) ? 1 : -1;
}

static int result(const struct session *s, int good, size_t n) { return good ? (int)n : s->error == SSL_ERROR_ZERO_RETURN ? 0 : -1; }
static size_t plus(int n) { return n > 0 ? (size_t)n : 0; }

static int leave(SSL *ssl, struct session *s)
{
	hold();
	let_go(s);
	unhold();
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	return s->state == OVER ? 1 : -1;
}

static X509 *own(X509 *cert)
{
	if (cert != NULL)
		X509_up_ref(cert);
	return cert;
}

#define DONE(s) ((s)->state == OPEN || (s)->state == OVER)
#define VERSION_NAME(s) ((s)->version == TLS1_3_VERSION ? "TLSv1.3" : (s)->version != 0 ? "TLSv1.2" : "unknown")

INSTEAD(int, SSL_read_ex, (SSL *ssl, void *b, size_t n, size_t *got), (ssl, b, n, got), session_read(ssl, s, b, n, got))
INSTEAD(int, SSL_write_ex, (SSL *ssl, const void *b, size_t n, size_t *done), (ssl, b, n, done), session_write(ssl, s, b, n, done))
INSTEAD(int, SSL_read, (SSL *ssl, void *b, int n), (ssl, b, n), ({ size_t k; int r = session_read(ssl, s, b, plus(n), &k); result(s, r, k); }))
INSTEAD(int, SSL_write, (SSL *ssl, const void *b, int n), (ssl, b, n), ({ size_t k; int r = session_write(ssl, s, b, plus(n), &k); result(s, r, k); }))
INSTEAD(int, SSL_peek, (SSL *ssl, void *b, int n), (ssl, b, n), complain(s, library, SETTINGS, "SSL_peek") - 1)
INSTEAD(int, SSL_peek_ex, (SSL *ssl, void *b, size_t n, size_t *got), (ssl, b, n, got), complain(s, library, SETTINGS, "SSL_peek"))
INSTEAD(int, SSL_clear, (SSL *ssl), (ssl), complain(s, library, SETTINGS, "SSL_clear"))
INSTEAD(int, SSL_shutdown, (SSL *ssl), (ssl), leave(ssl, s))
INSTEAD(int, SSL_get_error, (const SSL *ssl, int r), (ssl, r), r > 0 ? SSL_ERROR_NONE : s->error)
TELLS(int, SSL_pending, pending(s))
TELLS(int, SSL_has_pending, s->state == OPEN && s->in_len > s->in_at)
TELLS(int, SSL_is_init_finished, DONE(s))
TELLS(int, SSL_in_init, !DONE(s))
TELLS(int, SSL_in_before, s->in == NULL)
TELLS(OSSL_HANDSHAKE_STATE, SSL_get_state, DONE(s) ? TLS_ST_OK : TLS_ST_BEFORE)
TELLS(const char *, SSL_get_version, VERSION_NAME(s))
TELLS(int, SSL_version, s->version)
TELLS(const SSL_CIPHER *, SSL_get_current_cipher, s->cipher)
TELLS(STACK_OF(X509) *, SSL_get_peer_cert_chain, s->chain)
TELLS(STACK_OF(X509) *, SSL_get0_verified_chain, s->verified)
TELLS(X509 *, SSL_get0_peer_certificate, sk_X509_value(s->chain, 0))
TELLS(X509 *, SSL_get1_peer_certificate, own(sk_X509_value(s->chain, 0)))

/* SSL_CTX_set_cert_verify_callback: nobody can be asked later for what was set. */
void SSL_CTX_set_cert_verify_callback(SSL_CTX *ctx, int (*f)(X509_STORE_CTX *, void *), void *arg)
{
	if (prepared())
		SSL_CTX_set_ex_data(ctx, of_ctx, f != NULL ? ctx : NULL);
	REAL(SSL_CTX_set_cert_verify_callback)(ctx, f, arg);
}
