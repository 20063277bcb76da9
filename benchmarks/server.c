/* A provider that costs nothing: every POST gets the same chat completion after a constant time.
 *
 * One thread, epoll, one write per answer, so that what a benchmark measures is the client. Prints
 * its port on the first line. Ends on SIGTERM and with the process that started it.
 *
 *   server [--port N] [--latency-ms N] [--cpu N]
 *
 * GET /stats tells what it saw, /stats/reset begins anew, /v1/models names one model.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "server_due.h"
#include "server_stats.h"

#define BACKLOG 16384
#define FIRST_BUFFER 4096
#define MAX_REQUEST (64u << 20)
#define MAX_EVENTS 1024
#define MAX_FILES (1 << 20)

typedef struct {
    char *in;            /* what has come and is not parsed yet */
    size_t in_size, in_length;
    char *out;           /* what the socket would not take; rarely used */
    size_t out_size, out_length;
    uint32_t generation; /* tells a connection from an earlier one of the same number */
    int open, continued;
} Connection;

static Connection *connections;
static int max_files;
static int poller, timer;
static int64_t latency_ns, armed_for;

static char answer[4096];
static size_t answer_length;

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void watch(int fd, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        fail("epoll_ctl");
}

static void end_connection(int fd)
{
    Connection *c = &connections[fd];
    free(c->in);
    free(c->out);
    uint32_t generation = c->generation + 1;
    memset(c, 0, sizeof *c);
    c->generation = generation;
    stats.open--;
    close(fd);
}

/* Send, and keep what the socket does not take. Returns -1 when the connection is gone. */
static int send_bytes(int fd, const char *bytes, size_t length)
{
    Connection *c = &connections[fd];
    if (c->out_length == 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent == (ssize_t)length)
            return 0;
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            end_connection(fd);
            return -1;
        }
        sent = sent < 0 ? 0 : sent;
        bytes += sent;
        length -= sent;
        watch(fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
    if (c->out_length + length > c->out_size) {
        c->out_size = (c->out_length + length) * 2;
        c->out = grown(c->out, c->out_size);
    }
    memcpy(c->out + c->out_length, bytes, length);
    c->out_length += length;
    return 0;
}

static void flush_output(int fd)
{
    Connection *c = &connections[fd];
    ssize_t sent = send(fd, c->out, c->out_length, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            end_connection(fd);
        return;
    }
    c->out_length -= sent;
    memmove(c->out, c->out + sent, c->out_length);
    if (c->out_length == 0)
        watch(fd, EPOLLIN, EPOLL_CTL_MOD);
}

static int send_json(int fd, const char *status, const char *body, size_t length)
{
    char head[256];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
                        status, length);
    return send_bytes(fd, head, size) < 0 ? -1 : send_bytes(fd, body, length);
}

static int send_answer(int fd, int64_t now)
{
    note_answer(now);
    stats.in_flight--;
    return send_bytes(fd, answer, answer_length);
}

static int send_stats(int fd)
{
    static char text[STATS_SIZE];
    return send_json(fd, "200 OK", text, print_stats(text, sizeof text));
}

static int send_reset(int fd)
{
    /* Requests of an ended client may still be due: they are forgotten, not answered. */
    ring_length = 0;
    reset_stats();
    return send_json(fd, "200 OK", "{}", 2);
}

static int handle_post(int fd, int64_t now)
{
    if (stats.requests++ == 0)
        stats.first_request = now;
    if (++stats.in_flight > stats.max_in_flight)
        stats.max_in_flight = stats.in_flight;
    if (latency_ns == 0)
        return send_answer(fd, now);
    push_due(fd, connections[fd].generation, now + latency_ns);
    return 0;
}

static int handle(int fd, const char *head, int64_t now)
{
    int posted = strncmp(head, "POST ", 5) == 0;
    const char *path = strchr(head, ' ');
    path = path ? path + 1 : "";
    if (strncmp(path, "/stats/reset", 12) == 0)
        return send_reset(fd);
    if (posted)
        return handle_post(fd, now);
    if (strncmp(path, "/stats", 6) == 0)
        return send_stats(fd);
    if (strncmp(path, "/v1/models", 10) == 0)
        return send_json(fd, "200 OK", MODELS, sizeof MODELS - 1);
    return send_json(fd, "404 Not Found", "{}", 2);
}

/* The value of a header in a head that ends with '\0'; NULL if there is none. */
static const char *header(const char *head, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            return value + strspn(value, " \t");
        }
    }
    return NULL;
}

/* Handle the first request in the buffer. Returns its length, 0 if it is not all there, -1 if the
 * connection is gone. */
static ssize_t take_request(int fd, char *bytes, size_t length, int64_t now)
{
    Connection *c = &connections[fd];
    char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    *end = '\0';
    const char *declared = header(bytes, "content-length");
    size_t head = end + 4 - bytes, whole = head + (declared ? strtoul(declared, NULL, 10) : 0);
    if (header(bytes, "transfer-encoding") || whole > MAX_REQUEST) {
        fprintf(stderr, "a body in chunks, or one that is too long\n");
        end_connection(fd);
        return -1;
    }
    ssize_t taken = 0;
    if (length >= whole) {
        c->continued = 0;
        taken = handle(fd, bytes, now) < 0 ? -1 : (ssize_t)whole;
    } else if (!c->continued && header(bytes, "expect")) {
        c->continued = 1;
        taken = send_bytes(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25) < 0 ? -1 : 0;
    }
    if (taken >= 0)
        *end = '\r';
    if (taken == 0 && whole + 1 > c->in_size) {
        c->in_size = whole + 1;
        c->in = grown(c->in, c->in_size);
    }
    return taken;
}

static void receive(int fd, int64_t now)
{
    Connection *c = &connections[fd];
    if (c->in_length == c->in_size) {
        c->in_size = c->in_size ? c->in_size * 2 : FIRST_BUFFER;
        c->in = grown(c->in, c->in_size);
    }
    ssize_t got = recv(fd, c->in + c->in_length, c->in_size - c->in_length, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            end_connection(fd);
        return;
    }
    c->in_length += got;
    size_t at = 0;
    while (at < c->in_length) {
        ssize_t taken = take_request(fd, c->in + at, c->in_length - at, now);
        if (taken < 0)
            return;
        if (taken == 0)
            break;
        at += taken;
    }
    c->in_length -= at;
    if (at > 0 && c->in_length > 0)
        memmove(c->in, c->in + at, c->in_length);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd >= max_files) {
            close(fd);
            continue;
        }
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd].open = 1;
        stats.accepted++;
        stats.open++;
        watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void answer_due(void)
{
    int64_t now = now_ns();
    while (ring_length > 0 && ring[ring_head].due <= now) {
        Due due = ring[ring_head];
        ring_head = (ring_head + 1) & (ring_size - 1);
        ring_length--;
        if (connections[due.fd].open && connections[due.fd].generation == due.generation)
            send_answer(due.fd, now);
        else
            stats.in_flight--; /* its client gave up */
    }
    if (ring_length > 0 && ring[ring_head].due != armed_for) {
        armed_for = ring[ring_head].due;
        struct itimerspec when = {.it_value = {.tv_sec = armed_for / 1000000000LL,
                                               .tv_nsec = armed_for % 1000000000LL}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    }
}

static void serve(int listener)
{
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int count = epoll_wait(poller, events, MAX_EVENTS, -1);
        int64_t now = now_ns();
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
            } else if (fd == timer) {
                uint64_t times;
                if (read(timer, &times, sizeof times) < 0 && errno != EAGAIN)
                    fail("timer");
            } else {
                if (connections[fd].out_length > 0 && (events[i].events & EPOLLOUT))
                    flush_output(fd);
                if (connections[fd].open && (events[i].events & ~EPOLLOUT))
                    receive(fd, now);
            }
        }
        answer_due();
    }
}

static int listen_on(int port)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, BACKLOG) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void prepare(int cpu)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    max_files = files.rlim_cur > MAX_FILES ? MAX_FILES : (int)files.rlim_cur;
    connections = calloc(max_files, sizeof *connections);
    if (connections == NULL)
        fail("calloc");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1000);
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    answer_length = snprintf(answer, sizeof answer,
                             "HTTP/1.1 200 OK\r\n%scontent-length: %zu\r\n\r\n%s", ANSWER_HEADERS,
                             sizeof ANSWER_BODY - 1, ANSWER_BODY);
}

int main(int count, char **words)
{
    int port = 0, cpu = -1;
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(words[i], "--port") == 0)
            port = atoi(words[i + 1]);
        else if (strcmp(words[i], "--latency-ms") == 0)
            latency_ns = (int64_t)(atof(words[i + 1]) * 1e6);
        else if (strcmp(words[i], "--cpu") == 0)
            cpu = atoi(words[i + 1]);
    }
    prepare(cpu);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int listener = listen_on(port);
    watch(listener, EPOLLIN, EPOLL_CTL_ADD);
    watch(timer, EPOLLIN, EPOLL_CTL_ADD);
    serve(listener);
}
