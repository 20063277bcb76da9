/* What the server says and what it saw: its constant answer, and its counts. Part of server.c. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Answers are counted in steps of 0.1 s; an hour and a half of them. */
#define STEP_NS 100000000LL
#define STEPS 54000
#define STATS_SIZE (STEPS * 24 + 1024)

static struct {
    long requests, answers, accepted, open, in_flight, max_in_flight;
    int64_t first_request, first_answer, last_answer;
} stats;
static uint32_t step_answers[STEPS], step_in_flight[STEPS];

static const char ANSWER_BODY[] =
    "{\"id\":\"chatcmpl-bench0000000000000000000000\",\"object\":\"chat.completion\","
    "\"created\":1760000000,\"model\":\"gpt-4.1-mini\",\"choices\":[{\"index\":0,\"message\":"
    "{\"role\":\"assistant\",\"content\":\"The library opens at nine in the morning on weekdays and "
    "at ten on Saturdays; on Sundays and public holidays it stays closed, and books can be handed "
    "back at any time through the slot beside the main door.\",\"refusal\":null},"
    "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":34,"
    "\"completion_tokens\":44,\"total_tokens\":78},\"system_fingerprint\":\"fp_bench\"}";
static const char ANSWER_HEADERS[] =
    "content-type: application/json\r\n"
    "x-request-id: req_bench00000000000000000000000000\r\n"
    "openai-processing-ms: 1\r\n"
    "x-ratelimit-limit-requests: 100000000\r\n"
    "x-ratelimit-remaining-requests: 99999999\r\n"
    "x-ratelimit-reset-requests: 1ms\r\n"
    "x-ratelimit-limit-tokens: 100000000000\r\n"
    "x-ratelimit-remaining-tokens: 99999999999\r\n"
    "x-ratelimit-reset-tokens: 1ms\r\n";
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4.1-mini\",\"object\":\"model\","
    "\"created\":1760000000,\"owned_by\":\"benchmark\"}]}";

static void note_answer(int64_t now)
{
    stats.answers++;
    if (stats.first_answer == 0)
        stats.first_answer = now;
    stats.last_answer = now;
    int64_t step = (now - stats.first_request) / STEP_NS;
    if (step < STEPS) {
        step_answers[step]++;
        if (stats.in_flight > step_in_flight[step])
            step_in_flight[step] = stats.in_flight;
    }
}

static void reset_stats(void)
{
    long open = stats.open;
    memset(&stats, 0, sizeof stats);
    memset(step_answers, 0, sizeof step_answers);
    memset(step_in_flight, 0, sizeof step_in_flight);
    stats.open = open;
}

static size_t print_list(char *text, size_t size, size_t at, const char *name, uint32_t *values)
{
    int64_t last = stats.last_answer ? (stats.last_answer - stats.first_request) / STEP_NS : -1;
    at += snprintf(text + at, size - at, ",\"%s\":[", name);
    for (int64_t i = 0; i <= last && i < STEPS; i++)
        at += snprintf(text + at, size - at, "%s%u", i ? "," : "", values[i]);
    return at + snprintf(text + at, size - at, "]");
}

/* Write the counts as JSON; return its length. */
static size_t print_stats(char *text, size_t size)
{
    size_t at = snprintf(
        text, size,
        "{\"requests\":%ld,\"answers\":%ld,\"connections\":%ld,\"open\":%ld,\"max_in_flight\":%ld,"
        "\"first_request\":%.6f,\"first_answer\":%.6f,\"last_answer\":%.6f,\"step_s\":0.1",
        stats.requests, stats.answers, stats.accepted, stats.open, stats.max_in_flight,
        stats.first_request / 1e9, stats.first_answer / 1e9, stats.last_answer / 1e9);
    at = print_list(text, size, at, "step_answers", step_answers);
    at = print_list(text, size, at, "step_in_flight", step_in_flight);
    return at + snprintf(text + at, size - at, "}");
}
