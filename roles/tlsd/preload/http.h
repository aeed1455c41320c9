/*
 * Where an HTTP/1.1 conversation is. A program that does not know that it shares its
 * session does not say either when it is between one exchange and the next, which is
 * the only place where another program can go on. Whatever is not plainly HTTP/1.1, or
 * could be read in two ways, is lost: from then on nothing is between exchanges.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct http {
	enum { START, HEADERS, BODY, SIZE, AFTER_CHUNK, TRAILERS } at;
	unsigned long long left; /* of a body or a chunk */
	unsigned begun, done;    /* messages; of answers the final ones */
	int head;                /* a request that has an answer without a body */
	int status, sized, chunked;
	char line[256]; /* as much of a line as tells something */
	size_t len;     /* of all of it */
	char last;
};

struct exchange {
	struct http out, in;
	int lost;
};

static int http_between(const struct exchange *x)
{
	return !x->lost && x->out.at == START && x->in.at == START && x->out.len == 0 && x->in.len == 0 &&
	    x->out.begun == x->out.done && x->out.begun == x->in.done;
}

static int http_start(struct exchange *x, struct http *h)
{
	if (h == &x->out) { /* one that comes before the last answer is whole leaves no way to tell */
		h->head = strncmp(h->line, "HEAD ", 5) == 0;
		return h->begun++ == x->in.done && h->len > 0 && strncmp(h->line, "CONNECT ", 8) != 0;
	}
	if (strncmp(h->line, "HTTP/1.1 ", 9) != 0 || strspn(h->line + 9, "0123456789") != 3 || x->out.begun != h->done + 1)
		return 0;
	h->status = atoi(h->line + 9);
	return h->status >= 100 && h->status != 101;
}

static int http_number(const char *s, int base, const char *after, unsigned long long *n)
{
	size_t digits = strspn(s, base == 10 ? "0123456789" : "0123456789abcdefABCDEF");

	if (digits == 0 || digits > 15 || (s[digits] != '\0' && strchr(after, s[digits]) == NULL))
		return 0;
	*n = strtoull(s, NULL, base);
	return 1;
}

static int http_header(struct http *h)
{
	size_t name = strcspn(h->line, ": \t");
	const char *value = h->line + name + 1;
	int whole = h->len < sizeof h->line;

	if (h->line[name] != ':' || name == 0)
		return 0;
	value += strspn(value, " \t");
	if (name == 14 && strncasecmp(h->line, "Content-Length", 14) == 0)
		return whole && !h->sized++ && http_number(value, 10, "", &h->left);
	if (name == 17 && strncasecmp(h->line, "Transfer-Encoding", 17) == 0)
		return whole && !h->chunked++ && strcasecmp(value, "chunked") == 0;
	if (name == 10 && strncasecmp(h->line, "Connection", 10) == 0) /* close, upgrade */
		return whole && strcasecmp(value, "keep-alive") == 0;
	return 1;
}

/* http_body is behind the headers; 1: a body or another message is to come. */
static int http_body(struct exchange *x, struct http *h)
{
	int answer = h == &x->in;

	h->at = START;
	if (answer && h->status < 200)
		return 1;
	if (!(answer && (x->out.head || h->status == 204 || h->status == 304))) {
		if ((h->sized && h->chunked) || (answer && !h->sized && !h->chunked))
			return 0;
		if (h->chunked)
			h->at = SIZE;
		else if (h->sized && h->left > 0)
			h->at = BODY;
	}
	h->done += h->at == START;
	return 1;
}

static int http_line(struct exchange *x, struct http *h)
{
	switch (h->at) {
	case START:
		h->at = HEADERS;
		h->sized = h->chunked = 0;
		return http_start(x, h);
	case HEADERS:
		return h->len > 0 ? http_header(h) : http_body(x, h);
	case SIZE:
		if (!http_number(h->line, 16, "; \t", &h->left))
			return 0;
		h->at = h->left > 0 ? BODY : TRAILERS;
		return 1;
	case AFTER_CHUNK:
		h->at = SIZE;
		return h->len == 0;
	default: /* TRAILERS */
		if (h->len == 0) {
			h->at = START;
			h->done++;
		}
		return 1;
	}
}

/* http_pass takes what goes by: of requests to x->out, of answers to x->in. */
static void http_pass(struct exchange *x, struct http *h, const char *b, size_t n)
{
	while (n > 0 && !x->lost) {
		if (h->at == BODY) {
			size_t part = h->left < n ? (size_t)h->left : n;
			b += part;
			n -= part;
			h->left -= part;
			if (h->left == 0) {
				h->at = h->chunked ? AFTER_CHUNK : START;
				h->done += h->at == START;
			}
			continue;
		}
		n--;
		if (*b != '\n') {
			x->lost = *b == '\0';
			if (h->len < sizeof h->line - 1)
				h->line[h->len] = *b;
			h->len++;
			h->last = *b++;
			continue;
		}
		b++;
		x->lost = h->len == 0 || h->last != '\r';
		if (x->lost)
			return;
		h->len--;
		h->line[h->len < sizeof h->line ? h->len : sizeof h->line - 1] = '\0';
		x->lost = !http_line(x, h);
		h->len = 0;
	}
}
