/*
 * Package caller's program without the start of a Go program, which is most of what
 * that costs: the same arguments, the same bytes.
 */
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUEST "request\n"

static const struct timeval patience = { 10, 0 };

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static int
reach(const struct sockaddr *to, socklen_t size)
{
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
		fail("socket");
	if (connect(fd, to, size) < 0)
		fail("connect");
	return fd;
}

/* Read a head that begins and ends so, and a line. */
static void
hear(int fd, const char *begin, const char *end)
{
	static char got[1 << 16];
	size_t have = 0;

	for (;;) {
		ssize_t n = read(fd, got + have, sizeof got - 1 - have);
		if (n <= 0)
			fail("no answer");
		got[have += n] = '\0';
		size_t least = strlen(begin) < have ? strlen(begin) : have;
		if (strncmp(got, begin, least) != 0) {
			fprintf(stderr, "%s\n", got);
			exit(1);
		}
		const char *at = strstr(got, end);
		if (at != NULL && strchr(at + strlen(end), '\n') > at + strlen(end))
			return;
	}
}

static void
say(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail("write");
}

/* Wait for one, which must have succeeded. */
static void
reap(void)
{
	int status;

	if (wait(&status) < 0)
		fail("wait");
	if (status != 0)
		exit(1);
}

static int call(int argc, char **argv);

/*
 * many COUNT ATONCE and the arguments of a call: so many processes, each of which is
 * forked, makes one call and ends, which is the least that a process can cost.
 */
int
main(int argc, char **argv)
{
	if (argc < 5 || strcmp(argv[1], "many") != 0)
		return call(argc, argv);
	int most = atoi(argv[3]), there = 0;
	for (int left = atoi(argv[2]); left > 0; left--) {
		for (; there >= most; there--)
			reap();
		pid_t pid = fork();
		if (pid < 0)
			fail("fork");
		if (pid == 0)
			_exit(call(argc - 3, argv + 3));
		there++;
	}
	for (; there > 0; there--)
		reap();
	return 0;
}

static int
call(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "tlsd") == 0) {
		struct sockaddr_un to = { .sun_family = AF_UNIX };
		char head[256];

		if (strlen(argv[2]) >= sizeof to.sun_path)
			return 1;
		strcpy(to.sun_path, argv[2]);
		snprintf(head, sizeof head, "CONNECT 127.0.0.1:%s GATEHOUSE-TLS/1\n"
		    "Session: short\nMode: framed\nFrame: line\n\n" REQUEST, argv[3]);
		int fd = reach((struct sockaddr *)&to, sizeof to);
		say(fd, head);
		hear(fd, "GATEHOUSE-TLS/1 200 ", "\r\n\r\n");
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "tcp") == 0) {
		struct sockaddr_in to = { .sin_family = AF_INET };

		to.sin_port = htons(atoi(argv[2]));
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		int fd = reach((struct sockaddr *)&to, sizeof to);
		say(fd, REQUEST);
		hear(fd, "", "");
		return 0;
	}
	fprintf(stderr, "arguments\n");
	return 1;
}
