/* What is to be answered, and when. Part of server.c. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    int64_t due;
    uint32_t generation;
    int fd;
} Due;

/* The latency is constant, so the answers fall due in the order of the requests: a ring. */
static Due *ring;
static size_t ring_size, ring_head, ring_length;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *grown(void *memory, size_t size)
{
    void *result = realloc(memory, size);
    if (result == NULL)
        fail("realloc");
    return result;
}

static void push_due(int fd, uint32_t generation, int64_t due)
{
    if (ring_length == ring_size) {
        size_t size = ring_size ? ring_size * 2 : 16384;
        Due *larger = grown(NULL, size * sizeof *larger);
        for (size_t i = 0; i < ring_length; i++)
            larger[i] = ring[(ring_head + i) & (ring_size - 1)];
        free(ring);
        ring = larger;
        ring_size = size;
        ring_head = 0;
    }
    Due *last = &ring[(ring_head + ring_length++) & (ring_size - 1)];
    last->due = due;
    last->fd = fd;
    last->generation = generation;
}
