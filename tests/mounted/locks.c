/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locks DIR: fcntl(2) and flock(2) locks between processes. TAP.
 */
#include "util.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

static char path[4096];

/* A child that does what it is told through a pipe, one letter at a time, and answers with a byte. */
struct peer {
	pid_t pid;
	int to, from;
};

static int set_lock(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	return fcntl(fd, cmd, &l);
}

static void on_alarm(int sig)
{
	(void)sig;
}

/*
 * w/r/u: fcntl write, read lock, unlock of bytes 0..99; h/H: of 100..199 (write, unlock); W: blocking write lock
 * E/S/N: flock exclusive, shared, none, not blocking; B: flock exclusive, blocking; o: OFD write lock
 * c: open and close another descriptor; q: end
 */
static char peer_do(int fd, char what)
{
	int r = -1;

	switch (what) {
	case 'w':
		r = set_lock(fd, F_SETLK, F_WRLCK, 0, 100);
		break;
	case 'r':
		r = set_lock(fd, F_SETLK, F_RDLCK, 0, 100);
		break;
	case 'u':
		r = set_lock(fd, F_SETLK, F_UNLCK, 0, 100);
		break;
	case 'h':
		r = set_lock(fd, F_SETLK, F_WRLCK, 100, 100);
		break;
	case 'H':
		r = set_lock(fd, F_SETLK, F_UNLCK, 100, 100);
		break;
	case 'W':
		r = set_lock(fd, F_SETLKW, F_WRLCK, 0, 100);
		break;
	case 'E':
		r = flock(fd, LOCK_EX | LOCK_NB);
		break;
	case 'S':
		r = flock(fd, LOCK_SH | LOCK_NB);
		break;
	case 'N':
		r = flock(fd, LOCK_UN);
		break;
	case 'B':
		r = flock(fd, LOCK_EX);
		break;
	case 'o':
		r = set_lock(fd, F_OFD_SETLK, F_WRLCK, 0, 100);
		break;
	case 'c': {
		int other = open(path, O_RDONLY);

		r = other < 0 ? -1 : close(other);
		break;
	}
	default:
		break;
	}
	if (r == 0)
		return '0';
	return errno == EINTR ? 'i' : errno == EAGAIN || errno == EACCES ? 'b' : 'e';
}

static struct peer peer_start(void)
{
	int a[2], b[2];
	struct peer p;

	if (pipe(a) < 0 || pipe(b) < 0)
		die("pipe");
	fflush(stdout);
	p.pid = fork();
	if (p.pid == 0) {
		struct sigaction sa = { .sa_handler = on_alarm };
		int fd = open(path, O_RDWR);
		char what, answer;

		sigaction(SIGUSR1, &sa, NULL);
		close(a[1]);
		close(b[0]);
		while (read(a[0], &what, 1) == 1 && what != 'q') {
			answer = peer_do(fd, what);
			if (write(b[1], &answer, 1) != 1)
				break;
		}
		_exit(0);
	}
	close(a[0]);
	close(b[1]);
	p.to = a[1];
	p.from = b[0];
	return p;
}

static void tell(const struct peer *p, char what)
{
	if (write(p->to, &what, 1) != 1)
		die("a child died");
}

/* The answer, or '.' if there is none within @ms. */
static char answer(const struct peer *p, int ms)
{
	char c = '?';

	for (int i = 0; i < ms; i += 5) {
		int fl = fcntl(p->from, F_GETFL);

		fcntl(p->from, F_SETFL, fl | O_NONBLOCK);
		if (read(p->from, &c, 1) == 1)
			return c;
		sleep_ms(5);
	}
	return '.';
}

static char ask(const struct peer *p, char what)
{
	tell(p, what);
	return answer(p, 10000);
}

static void peer_stop(struct peer *p)
{
	tell(p, 'q');
	wait_for(p->pid);
	close(p->to);
	close(p->from);
}

#define WANT(p, what, want)                                                                        \
	do {                                                                                       \
		char got_ = ask(&(p), (what));                                                     \
		if (got_ != (want))                                                                \
			tap_fail("line %d: '%c' answered '%c', want '%c'", __LINE__, (what), got_, \
				 (want));                                                          \
	} while (0)

static void test_fcntl(int fd)
{
	struct peer a = peer_start(), b = peer_start();
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };

	WANT(a, 'w', '0');
	WANT(b, 'w', 'b');
	WANT(b, 'r', 'b');
	tap_end("fcntl: a write lock keeps others out");
	CHECK(fcntl(fd, F_GETLK, &l) == 0);
	CHECK_EQ(l.l_type, F_WRLCK);
	CHECK_EQ(l.l_pid, a.pid);
	CHECK_EQ(l.l_start, 0);
	CHECK_EQ(l.l_len, 100);
	tap_end("fcntl: F_GETLK says who holds what");
	WANT(b, 'h', '0');
	WANT(a, 'h', 'b');
	WANT(b, 'H', '0');
	tap_end("fcntl: ranges are separate");
	WANT(a, 'r', '0');
	WANT(b, 'r', '0');
	WANT(a, 'w', 'b');
	tap_end("fcntl: read locks are shared, a lock is downgraded");
	WANT(a, 'u', '0');
	WANT(b, 'u', '0');
	WANT(a, 'w', '0');
	WANT(a, 'c', '0');
	WANT(b, 'w', '0');
	tap_end("fcntl: closing any descriptor of the file drops the process's locks");
	peer_stop(&b);
	WANT(a, 'w', '0');
	tap_end("fcntl: a process that ends holds nothing");
	peer_stop(&a);
}

static void test_waiting(void)
{
	struct peer a = peer_start(), b = peer_start(), c = peer_start();
	int64_t t;

	WANT(a, 'w', '0');
	tell(&b, 'W');
	CHECK_EQ(answer(&b, 300), '.');
	/* An unlock of another range, and one by somebody else, must not queue behind the wait. */
	WANT(c, 'h', '0');
	WANT(c, 'H', '0');
	t = now_ns();
	WANT(a, 'u', '0');
	CHECK_EQ(answer(&b, 5000), '0');
	CHECK((now_ns() - t) / 1000000 < 1000);
	tap_end("fcntl: F_SETLKW waits, and goes on when the lock is free");
	tell(&a, 'W');
	CHECK_EQ(answer(&a, 200), '.');
	kill(a.pid, SIGUSR1);
	CHECK_EQ(answer(&a, 5000), 'i');
	WANT(b, 'u', '0');
	WANT(a, 'w', '0');
	WANT(a, 'u', '0');
	tap_end("fcntl: a signal interrupts F_SETLKW");
	WANT(b, 'w', '0');
	tell(&a, 'W');
	CHECK_EQ(answer(&a, 200), '.');
	kill(b.pid, SIGKILL);
	wait_for(b.pid);
	CHECK_EQ(answer(&a, 5000), '0');
	tap_end("fcntl: who waits gets the lock of one who was killed");
	close(b.to);
	close(b.from);
	peer_stop(&a);
	peer_stop(&c);
}

static void test_flock(void)
{
	struct peer a = peer_start(), b = peer_start();
	int fd1, fd2, fd3;

	WANT(a, 'E', '0');
	WANT(b, 'E', 'b');
	WANT(b, 'S', 'b');
	WANT(a, 'S', '0');
	WANT(b, 'S', '0');
	WANT(a, 'E', 'b');
	WANT(a, 'N', '0');
	WANT(b, 'N', '0');
	tap_end("flock: exclusive, shared, changed, dropped");
	WANT(a, 'E', '0');
	tell(&b, 'B');
	CHECK_EQ(answer(&b, 200), '.');
	kill(b.pid, SIGUSR1);
	CHECK_EQ(answer(&b, 5000), 'i');
	tell(&b, 'B');
	CHECK_EQ(answer(&b, 200), '.');
	WANT(a, 'N', '0');
	CHECK_EQ(answer(&b, 5000), '0');
	tap_end("flock: waits, is interrupted, is handed over");
	WANT(a, 'c', '0');
	WANT(a, 'E', 'b');
	WANT(b, 'c', '0');
	WANT(a, 'E', 'b');
	tap_end("flock: belongs to the open file, not to the process");
	peer_stop(&b);
	WANT(a, 'E', '0');
	peer_stop(&a);
	fd1 = open(path, O_RDWR);
	fd2 = open(path, O_RDWR);
	fd3 = dup(fd1);
	CHECK(flock(fd1, LOCK_EX | LOCK_NB) == 0);
	CHECK_ERR(flock(fd2, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	close(fd1);
	CHECK_ERR(flock(fd2, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	close(fd3);
	CHECK(flock(fd2, LOCK_EX | LOCK_NB) == 0);
	close(fd2);
	tap_end("flock: held until the last duplicate is closed");
}

static void test_ofd(void)
{
	struct peer a = peer_start(), b = peer_start();
	char got = ask(&a, 'o');

	if (got == 'e') {
		tap_skip("OFD locks", "not supported here");
	} else {
		WANT(b, 'w', 'b');
		WANT(a, 'c', '0');
		WANT(b, 'w', 'b');
		tap_end("OFD locks: closing another descriptor does not drop them");
	}
	peer_stop(&a);
	peer_stop(&b);
}

/* A counter in the file, read and written under a lock: no step is lost. */
static void count_up(bool use_flock, int turns)
{
	int fd = open(path, O_RDWR);

	for (int i = 0; i < turns; i++) {
		uint64_t v = 0;
		int r = use_flock ? flock(fd, LOCK_EX) : set_lock(fd, F_SETLKW, F_WRLCK, 0, 8);

		if (r < 0 || pread_all(fd, &v, 8, 0) < 0)
			_exit(1);
		v++;
		if (pwrite_all(fd, &v, 8, 0) < 0)
			_exit(2);
		r = use_flock ? flock(fd, LOCK_UN) : set_lock(fd, F_SETLK, F_UNLCK, 0, 8);
		if (r < 0)
			_exit(3);
	}
	_exit(0);
}

static void test_counter(bool use_flock)
{
	enum { CHILDREN = 4, TURNS = 150 };
	pid_t pid[CHILDREN];
	uint64_t v = 0;
	int fd = open(path, O_RDWR);

	CHECK(pwrite_all(fd, &v, 8, 0) == 0);
	close(fd);
	for (int i = 0; i < CHILDREN; i++) {
		fflush(stdout);
		pid[i] = fork();
		if (pid[i] == 0)
			count_up(use_flock, TURNS);
	}
	for (int i = 0; i < CHILDREN; i++)
		CHECK_EQ(wait_for(pid[i]), 0);
	fd = open(path, O_RDONLY);
	CHECK(pread_all(fd, &v, 8, 0) == 0);
	CHECK_EQ(v, CHILDREN * TURNS);
	close(fd);
	tap_end(use_flock ? "flock guards a counter" : "fcntl locks guard a counter");
}

int main(int argc, char **argv)
{
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: locks DIR\n");
		return 64;
	}
	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof(path), "%s/locks.%d", argv[1], (int)getpid());
	fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0644);
	if (fd < 0)
		die("%s", path);
	test_fcntl(fd);
	close(fd);
	test_waiting();
	test_flock();
	test_ofd();
	test_counter(false);
	test_counter(true);
	unlink(path);
	return tap_done();
}
