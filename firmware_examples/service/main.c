/* etsa-service: a daemon around service.h. It reads values as lines from standard input (in a product: your acquisition
 * calls sv_push), writes forecasts as JSON lines to standard output, and reads its adapters again on SIGHUP. */
#define _POSIX_C_SOURCE 200809L
#include "adapting.h"
#include "arguments.h"
#include "health_file.h"
#include "quality_file.h"
#include "service.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: etsa-service [options] BUNDLE [ADAPTER ...]\n"
    "  ADAPTER            channel 0's .etsa file, channel 1's, ...; '-' or an empty file for the base alone.\n"
    "                     Read again on SIGHUP\n"
    "  --signal NAME      what a channel is, as MAP: the first for channel 0, ... An adapter for another is refused\n"
    "  --unit UNIT        its unit (UCUM), as mm[Hg]: the first for channel 0, ...\n"
    "  --interval SPAN    length of a step, as 1h, 60s or 250ms (1h); an adapter for another is refused\n"
    "  --accept-difference NAME  run an adapter that is for another signal or interval; every forecast then says so\n"
    "  --key HEX          public key (64 digits) that must have signed every adapter; repeatable: one of them\n"
    "                     Needed, and one that it names, where /etc/edge-tsfm/device.toml says signed_only\n"
    "  --floor N          lowest adapter version\n"
    "  --library FILE     libonnxruntime.so (or set ONNXRUNTIME_LIBRARY)\n"
    "  --threads N        of ONNX Runtime (2)\n"
    "  --prove-every SPAN how often what runs is asked for its known answer, as 1h or 500ms (1h, at most 40 days)\n"
    "  --quality N        score forecasts once their targets have arrived; the base also makes one in N (0: none)\n"
    "  --quality-file FILE  keep the figures there, written every 5 minutes and at the end; `edge-tsfm-device quality`\n"
    "                     reads a monitor's STATE/quality\n"
    "  --max-wql-vs-base PERCENT  each forecast says whether its adapter is shown to be worse than that, or not\n"
    "  --min-scored N     steps that both forecast before it does (200)\n"
    "  --beside-previous  the adapter that ran before a SIGHUP forecasts beside the new one, too\n"
    "  --health-file FILE  what runs and how its forecasts went, for whoever judges a trial: edge-tsfm-hand-over\n"
    "  --latency-budget SPAN  a forecast that takes longer is slow there, as 1s or 800ms\n"
    "  --adapt DIR        channel 0 learns from finished stays while idle, as far as edge-tsfm-hand-over --adapt DIR says\n"
    "  --trust-files      do not check the bundle's files against their digests\n"
    "standard input (a pipe, or a datagram socket from systemd): CHANNEL T_MS VALUE QUALITY,\n"
    "one value a line; quality 0 is good, anything else is missing. CHANNEL end: the stay is over\n";

#define MOST_ALIVE_MS 60000u
#define SAVE_MS 300000.0 /* between two writes of the figures: what a power cut may cost */
#define LOOK_MS 1000.0   /* between two checks for a new verdict or an outdated health file */

static const char *const VERDICTS[] = {"open", "better", "worse"};

static bool output_lost; /* written by the worker, read when it has ended */

/* sd_notify without libsystemd: one datagram to $NOTIFY_SOCKET. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || strlen(path) >= sizeof address.sun_path) return;
    int handle = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (handle < 0) return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') address.sun_path[0] = '\0'; /* an abstract socket */
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    (void)!sendto(handle, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&address, size);
    close(handle);
}

static void on_alive(void *user)
{
    (void)user;
    notify("WATCHDOG=1");
}

/* What the adapter is for; unbound, or used otherwise, where it is. */
static void print_use(const sv_forecast *f)
{
    if (f->unbound) printf(",\"unbound\":true");
    if (f->signal[0] == '\0') return;
    printf(",\"signal\":\"");
    hf_print_escaped(stdout, f->signal);
    printf("\"");
    if (f->differences == 0) return;
    printf(",\"accepted_differences\":[");
    for (uint32_t left = f->differences; left != 0; left &= left - 1) {
        printf("%s\"%s\"", left == f->differences ? "" : ",", fc_first_difference(left));
    }
    printf("]");
}

static void on_forecast(void *user, const sv_forecast *f)
{
    const etsa_bundle *bundle = user;
    double levels[ETSA_MAX_LEVELS];
    printf("{\"channel\":%u,\"t_ms\":%lld,\"adapter_version\":%llu,\"base\":\"", (unsigned)f->channel, (long long)f->t_ms,
           (unsigned long long)f->adapter_version);
    for (int i = 0; i < 32; i++) printf("%02x", bundle->digest[i]);
    printf("\",\"code\":%d", (int)f->err);
    print_use(f);
    if (f->judged) printf(",\"verdict\":\"%s\"", VERDICTS[f->verdict]);
    if (f->drifts) printf(",\"drift\":true");
    if (f->own) { /* learnt here: by which blob it was made */
        printf(",\"own\":\"");
        for (int i = 0; i < 32; i++) printf("%02x", f->adapter[i]);
        printf("\"");
    }
    if (f->moved.is) printf(",\"tracked\":%llu,\"width_factor\":%.17g", (unsigned long long)f->moved.updates, f->moved.width);
    if (f->err != ETSA_OK) {
        printf(",\"error\":\"");
        hf_print_escaped(stdout, f->message);
        printf("\"");
    } else if (etsa_bundle_levels(bundle, levels, ETSA_MAX_LEVELS) == ETSA_OK) {
        printf(",\"latency_ms\":%.3f,\"quantiles\":{", f->latency_ms);
        for (uint32_t j = 0; j < f->levels; j++) {
            printf("%s\"%g\":[", j > 0 ? "," : "", levels[j]);
            for (uint32_t h = 0; h < f->steps; h++) printf("%s%.9g", h > 0 ? "," : "", (double)f->quantiles[h * f->levels + j]);
            printf("]");
        }
        printf("}");
    }
    printf("}\n");
    if (fflush(stdout) != 0 && !output_lost) { /* no reader: end, so that the supervisor can tell */
        output_lost = true;
        kill(getpid(), SIGTERM);
    }
}

typedef struct options {
    const char *bundle, *adapters[SV_MAX_CHANNELS];
    fc_settings settings;
    sv_settings service;
    uint32_t named, measured; /* channels whose signal, unit was given */
    const char *quality_file; /* NULL: figures are not kept */
    const char *health_file;  /* NULL: not written */
    const char *adapt;        /* folder of what is learnt; NULL: nothing is */
} options;

/* The main thread's own data. */
typedef struct desk {
    sv_service *service;
    const options *o;
    etq_signal *figures;                /* room for a copy of them; NULL: they are not kept */
    hf_channel health[SV_MAX_CHANNELS]; /* what was offered and refused, with the counts that were written last */
    bool health_written;                /* and the file says so */
    ad_adapting *adapting;              /* NULL: nothing is learnt */
    char *adaptation;                   /* what of it the health file says */
    hf_process process;                 /* that the file names; without a boot: none can be written */
    etq_verdict verdicts[SV_MAX_CHANNELS]; /* as they were looked at last */
    double save_at, look_at;            /* ms */
    int signals;                        /* the signalfd: signals are blocked otherwise */
    bool reload, stop;
} desk;

/* An option that takes a value. */
static bool parse_value(const char *name, const char *value, options *o)
{
    uint64_t count = 0;
    if (strcmp(name, "--library") == 0) o->settings.library = value;
    else if (strcmp(name, "--floor") == 0) return fc_read_count(value, 0, UINT64_MAX, &o->service.policy.version_floor);
    else if (strcmp(name, "--interval") == 0) {
        if (!fc_read_duration(value, &count) || count % 1000 != 0) return false; /* steps are counted in ms */
        o->service.interval_ms = (int64_t)(count / 1000);
    } else if (strcmp(name, "--prove-every") == 0) {
        if (!fc_read_duration(value, &count) || count < 1000 || count / 1000 > UINT32_MAX) return false;
        o->service.prove_ms = (uint32_t)(count / 1000);
    } else if (strcmp(name, "--signal") == 0) {
        if (o->named == SV_MAX_CHANNELS) return false;
        o->service.signals[o->named++] = value;
    } else if (strcmp(name, "--unit") == 0) {
        if (o->measured == SV_MAX_CHANNELS) return false;
        o->service.units[o->measured++] = value;
    } else if (strcmp(name, "--accept-difference") == 0) {
        o->service.policy.accepted |= fc_read_difference(value);
        return fc_read_difference(value) != 0;
    } else if (strcmp(name, "--threads") == 0) {
        if (!fc_read_count(value, 1, 256, &count)) return false;
        o->settings.threads = (int)count;
    } else if (strcmp(name, "--quality") == 0) {
        if (!fc_read_count(value, 0, UINT32_MAX, &count)) return false;
        o->service.quality = true;
        o->service.shadow_every = (uint32_t)count;
    } else if (strcmp(name, "--quality-file") == 0) {
        o->quality_file = value;
    } else if (strcmp(name, "--health-file") == 0) {
        o->health_file = value;
    } else if (strcmp(name, "--adapt") == 0) {
        o->adapt = value;
    } else if (strcmp(name, "--latency-budget") == 0) {
        if (!fc_read_duration(value, &count) || count == 0) return false;
        o->service.latency_budget_ms = (double)count / 1e3;
    } else if (strcmp(name, "--max-wql-vs-base") == 0) {
        char *end;
        double percent = strtod(value, &end);
        if (*value == '\0' || *end != '\0' || !(percent >= -90 && percent <= 1000)) return false;
        o->service.judged = true;
        o->service.allowed = 1 + percent / 100;
    } else if (strcmp(name, "--min-scored") == 0) {
        if (!fc_read_count(value, 1, UINT32_MAX, &count)) return false;
        o->service.min_scored = (double)count;
    } else if (strcmp(name, "--key") == 0) {
        fc_policy *policy = &o->service.policy;
        return policy->key_count < FC_MAX_KEYS && fc_read_key(value, policy->keys[policy->key_count++]);
    } else return false;
    return true;
}

static bool parse(int argc, char **argv, options *o)
{
    memset(o, 0, sizeof *o);
    o->settings.library = getenv("ONNXRUNTIME_LIBRARY");
    o->service.interval_ms = 3600000;
    o->service.policy.need_use = true;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--trust-files") == 0) {
            o->settings.trust_files = true;
        } else if (strcmp(name, "--beside-previous") == 0) {
            o->service.shadow_previous = true;
        } else if (strncmp(name, "--", 2) != 0) {
            if (o->bundle == NULL) o->bundle = name;
            else if (o->service.channels < SV_MAX_CHANNELS) o->adapters[o->service.channels++] = name;
            else return false;
        } else if (value == NULL) {
            return false;
        } else {
            i++;
            if (!parse_value(name, value, o)) return false;
        }
    }
    if (o->service.channels == 0) o->adapters[o->service.channels++] = "-";
    bool scored = o->service.quality, beside = scored && o->service.shadow_every > 0;
    if ((o->quality_file != NULL && !scored) || ((o->service.judged || o->service.shadow_previous) && !beside)) return false;
    if (o->health_file == NULL && o->service.latency_budget_ms > 0) return false;
    return o->bundle != NULL;
}

/* Channel 0 learns on what was offered to it. */
static void install(desk *d, const uint8_t *data, size_t size)
{
    fc_message message;
    if (d->adapting == NULL) return;
    ad_install(d->adapting, d->service, data, size, message);
    if (message[0] != '\0') fprintf(stderr, "etsa-service: channel 0, learning: %s\n", message);
}

/* Offer a channel the content of a file, and record the result. */
static etsa_err load_adapter(desk *d, uint32_t channel, hf_channel *health)
{
    const options *o = d->o;
    uint8_t before[32];
    bool held = channel == 0 && d->adapting != NULL && ad_runs_own(d->adapting) && health->refused == 0;
    const size_t most = ETSA_MAX_BLOB_SIZE + ETSA_MAX_SIGNATURES * ETSA_SIGNATURE_SIZE;
    uint8_t *data = NULL;
    size_t size = 0;
    etsa_sha256_state digest;
    memset(health->why, 0, sizeof health->why);
    etsa_err err = fc_read_file(o->adapters[channel], most, &data, &size, health->why);
    health->offered = err == ETSA_OK && size > 0;
    etsa_sha256_start(&digest);
    etsa_sha256_add(&digest, data, size);
    memcpy(before, health->sha256, sizeof before);
    etsa_sha256_end(&digest, health->sha256);
    held = held && err == ETSA_OK && memcmp(before, health->sha256, sizeof before) == 0; /* what was learnt on it runs on */
    if (health->offered) err = fc_check_signed_only(&o->service.policy, health->why); /* the base alone may always run */
    if (err == ETSA_OK && !held) err = sv_swap(d->service, channel, size > 0 ? data : NULL, size, health->why);
    if (err == ETSA_OK && channel == 0) install(d, data, size);
    free(data);
    health->refused = (int)err;
    return err;
}

/* Offer each channel its file. One that is refused changes nothing, and the reason is logged. */
static void load_adapters(desk *d)
{
    for (uint32_t i = 0; i < d->o->service.channels; i++) {
        hf_channel *health = &d->health[i];
        if (strcmp(d->o->adapters[i], "-") == 0) {
            if (i == 0) install(d, NULL, 0);
            continue;
        }
        etsa_err err = load_adapter(d, i, health);
        if (err != ETSA_OK) {
            fprintf(stderr, "etsa-service: channel %u keeps what runs: [%d] %s: %s\n", (unsigned)i, (int)err,
                    etsa_err_name((int)err), health->why);
        } else {
            fprintf(stderr, "etsa-service: channel %u runs %s\n", (unsigned)i, health->offered ? d->o->adapters[i] : "the base alone");
        }
    }
    d->health_written = false; /* what was offered is news, also where the same runs on: whoever judges hears of it at once */
    d->look_at = 0;
}

static void read_line(sv_service *service, char *line)
{
    char *at = line, *end;
    unsigned long channel = strtoul(at, &end, 10);
    bool good = end > at && *at >= '0' && *at <= '9' && channel < SV_MAX_CHANNELS && *end == ' ';
    if (good && (strcmp(end, " end") == 0 || strcmp(end, " end\r") == 0)) {
        sv_end_stay(service, (uint32_t)channel);
        return;
    }
    errno = 0;
    long long t_ms = strtoll(at = end, &end, 10);
    good = good && end > at && errno == 0 && *end == ' ';
    float value = strtof(at = end, &end);
    good = good && end > at && *end == ' ';
    long quality = strtol(at = end, &end, 10);
    good = good && end > at && (*end == '\0' || strcmp(end, "\r") == 0);
    if (good) sv_push(service, (uint32_t)channel, t_ms, value, quality == SV_GOOD ? SV_GOOD : SV_INVALID);
    else fprintf(stderr, "etsa-service: a line that is not CHANNEL T_MS VALUE QUALITY or CHANNEL end\n");
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Write the figures, from a copy: values and forecasts continue meanwhile. A disk error is reported and tried again. */
static void save_quality(desk *d)
{
    fc_message message;
    if (d->figures != NULL &&
        qf_save(d->o->quality_file, d->figures, sv_quality_all(d->service, d->figures), message) != ETSA_OK)
        fprintf(stderr, "etsa-service: figures are not kept: %s\n", message);
    d->save_at = now_ms() + SAVE_MS;
}

/* What is learnt, as JSON, in place of what was said before. True if it is news. */
static bool say_adaptation(desk *d)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = d->adapting != NULL ? open_memstream(&text, &size) : NULL;
    if (to == NULL) return false;
    ad_print(d->adapting, to);
    if (fclose(to) != 0) {
        free(text);
        return false;
    }
    bool news = d->adaptation == NULL || strcmp(text, d->adaptation) != 0;
    free(d->adaptation);
    d->adaptation = text;
    return news;
}

/* Write the health file if its content has changed. */
static void save_health(desk *d)
{
    fc_message message;
    bool news = say_adaptation(d) || !d->health_written;
    if (d->o->health_file == NULL || d->process.boot[0] == '\0') return;
    for (uint32_t i = 0; i < d->o->service.channels; i++) {
        hf_channel next = d->health[i];
        (void)sv_health_of(d->service, i, &next.runs);
        news = news || memcmp(&next.runs, &d->health[i].runs, sizeof next.runs) != 0;
        d->health[i] = next;
    }
    if (!news) return;
    d->health_written = hf_save(d->o->health_file, &d->process, d->health, d->o->service.channels, d->adaptation, message) == ETSA_OK;
    if (!d->health_written) fprintf(stderr, "etsa-service: nobody can judge a trial: %s\n", message);
}

/* Allocate room for a copy of the figures, and restore the stored ones; NULL if figures are not kept. */
static etq_signal *load_quality(sv_service *service, const options *o)
{
    fc_message message;
    uint32_t count;
    if (o->quality_file == NULL) return NULL;
    etq_signal *signals = calloc(SV_MAX_CHANNELS, sizeof *signals);
    if (signals == NULL) fprintf(stderr, "etsa-service: figures are not kept: out of memory\n");
    else if (qf_load(o->quality_file, signals, SV_MAX_CHANNELS, &count, message)) sv_quality_go_on(service, signals, count);
    else if (message[0] != '\0') fprintf(stderr, "etsa-service: figures begin anew: %s\n", message);
    return signals;
}

/* Write the figures at once if a verdict has changed: a trial is judged by this file, also after a power cut. */
static void save_verdicts(desk *d)
{
    static sv_field field;
    bool news = false;
    if (d->figures == NULL || !d->o->service.judged) return;
    for (uint32_t i = 0; i < d->o->service.channels; i++) {
        if (!sv_quality(d->service, i, &field)) continue;
        news = news || field.verdict != d->verdicts[i];
        d->verdicts[i] = field.verdict;
    }
    if (news) save_quality(d);
}

/* Handle pending signals. They are read like the input, so that neither delays the other. */
static void take_signals(desk *d)
{
    struct signalfd_siginfo taken;
    while (read(d->signals, &taken, sizeof taken) == (ssize_t)sizeof taken) {
        if (taken.ssi_signo == SIGHUP) d->reload = true;
        else d->stop = true;
    }
}

/* Milliseconds that poll may wait; -1: without limit. */
static int wait_ms(const desk *d)
{
    bool looks = d->o->health_file != NULL || d->adapting != NULL || (d->figures != NULL && d->o->service.judged);
    double until = looks ? d->look_at : HUGE_VAL;
    if (d->figures != NULL && d->save_at < until) until = d->save_at;
    if (until == HUGE_VAL) return -1;
    double left = until - now_ms();
    return left > 0 ? (int)left + 1 : 0;
}

/* Do what is due apart from input. */
static void keep_house(desk *d)
{
    if (d->reload) {
        d->reload = false;
        load_adapters(d);
    }
    if (d->figures != NULL && now_ms() >= d->save_at) save_quality(d);
    if (now_ms() < d->look_at) return;
    d->look_at = now_ms() + LOOK_MS;
    fc_message message;
    if (d->adapting != NULL && ad_look(d->adapting, d->service, message)) fprintf(stderr, "etsa-service: channel 0 %s\n", message);
    save_verdicts(d);
    save_health(d);
}

/* Read the available input, and push each whole line. False at the end of the input; errno is 0 if that is not a failure. */
static bool feed(desk *d, bool datagrams)
{
    static char buffer[4096];
    static size_t used = 0;
    static bool skips = false; /* inside of a line that is too long */
    size_t room = sizeof buffer - 1 - used;
    ssize_t size = datagrams ? recv(STDIN_FILENO, buffer + used, room, MSG_TRUNC) : read(STDIN_FILENO, buffer + used, room);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    errno = 0;
    if (size == 0 && !datagrams) return false;
    if ((size_t)size > room) { /* MSG_TRUNC: its whole length. What was read ends inside of a value */
        fprintf(stderr, "etsa-service: a datagram of %zd bytes was refused, want at most %zu\n", size, room);
        return true;
    }
    used += (size_t)size;
    if (datagrams) buffer[used++] = '\n'; /* a datagram ends its last line */
    char *line = buffer, *end;
    while ((end = memchr(line, '\n', used - (size_t)(line - buffer))) != NULL) {
        *end = '\0';
        if (skips || end > line) read_line(d->service, skips ? end : line); /* its end may look like a value, and is none */
        skips = false;
        line = end + 1;
    }
    used -= (size_t)(line - buffer);
    if (used == sizeof buffer - 1) { /* no line is that long */
        skips = true;
        used = 0;
    }
    memmove(buffer, line, used);
    return true;
}

/* Feed lines as they come, until a signal or the end of the input ends it. False when the input failed. */
static bool serve(desk *d)
{
    int type = 0;
    socklen_t type_size = sizeof type;
    bool datagrams = getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_DGRAM;
    struct pollfd waits[] = {{.fd = d->signals, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        keep_house(d);
        int ready = poll(waits, 2, wait_ms(d));
        if (ready < 0 && errno != EINTR) return false;
        if (ready <= 0) continue;
        if (waits[0].revents != 0) take_signals(d);
        if (d->stop) return true;
        if (waits[1].revents != 0 && !feed(d, datagrams)) return errno == 0;
    }
}

/* How often to say that the worker lives: three times in the watchdog's time, if there is one and it watches us. */
static uint32_t alive_ms(void)
{
    const char *watchdog = getenv("WATCHDOG_USEC"), *whom = getenv("WATCHDOG_PID");
    uint64_t us = 0, pid = 0;
    if (watchdog == NULL || !fc_read_count(watchdog, 1, UINT64_MAX, &us)) return 1000;
    if (whom != NULL && (!fc_read_count(whom, 1, UINT64_MAX, &pid) || pid != (uint64_t)getpid())) return 1000;
    uint64_t ms = us / 3000;
    return ms < 1 ? 1 : ms > MOST_ALIVE_MS ? MOST_ALIVE_MS : (uint32_t)ms;
}

static void print_figure(const char *name, double value)
{
    if (value == value) fprintf(stderr, ",\"%s\":%.9g", name, value);
    else fprintf(stderr, ",\"%s\":null", name);
}

/* A comparison: of both on the forecasts that both made. */
static void print_beside(const char *name, const etq_against *a, uint32_t levels)
{
    fprintf(stderr, ",\"beside_%s\":{\"steps\":%.0f", name, a->other.steps);
    print_figure("wql", etq_wql(&a->own, levels));
    fprintf(stderr, ",\"units\":%.0f", a->moments[0]);
    char figure[32];
    snprintf(figure, sizeof figure, "%s_wql", name);
    print_figure(figure, etq_wql(&a->other, levels));
    print_figure("percent", etq_percent(a, levels));
    fprintf(stderr, ",\"drift\":%s}", a->drift_since != 0 ? "true" : "false");
}

/* How good forecasts were: a line for each channel, numbers of all its forecasts and none of a patient's. */
static void print_quality(sv_service *service, uint32_t channels)
{
    static sv_field f;
    for (uint32_t i = 0; i < channels; i++) {
        if (!sv_quality(service, i, &f)) continue;
        uint32_t levels = f.runs.level_count;
        fprintf(stderr, "etsa-service: {\"channel\":%u,\"adapter\":", (unsigned)i);
        if (f.runs.by.is_adapter) fprintf(stderr, "\"");
        for (int k = 0; f.runs.by.is_adapter && k < 32; k++) fprintf(stderr, "%02x", f.runs.by.sha256[k]);
        fprintf(stderr, f.runs.by.is_adapter ? "\"" : "null");
        fprintf(stderr, ",\"steps\":%.0f", f.runs.total.steps);
        print_figure("wql", etq_wql(&f.runs.total, levels));
        print_figure("mase", etq_mase(&f.runs.total));
        print_figure("coverage", etq_coverage(&f.runs.total));
        print_figure("missing", etq_missing(&f.runs.total));
        print_figure("recent_wql", etq_wql(&f.runs.recent, levels));
        fprintf(stderr, ",\"verdict\":\"%s\"", VERDICTS[f.verdict]);
        print_beside("base", &f.runs.against[ETQ_BASE], levels);
        print_beside("previous", &f.runs.against[ETQ_PREVIOUS], levels);
        fprintf(stderr, "}\n");
    }
}

static int give_up(etsa_err err, const char *message)
{
    fprintf(stderr, "etsa-service: [%d] %s: %s\n", (int)err, etsa_err_name((int)err), message);
    return 1;
}

int main(int argc, char **argv)
{
    options o;
    fc_base *base;
    sv_service *service;
    fc_message message;
    sigset_t handled;
    if (!parse(argc, argv, &o)) {
        fputs(USAGE, stderr);
        return 2;
    }
    if (o.health_file != NULL) hf_remove(o.health_file); /* from an earlier process, so out of date */
    if (o.quality_file != NULL) qf_clean(o.quality_file);
    sigemptyset(&handled);
    sigaddset(&handled, SIGHUP);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigprocmask(SIG_BLOCK, &handled, NULL); /* before any thread starts: all inherit it */
    signal(SIGPIPE, SIG_IGN); /* a reader that went is seen where it is written */
    int signals = signalfd(-1, &handled, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals < 0) return give_up(ETSA_STORAGE_ERROR, "cannot read signals");

    etsa_err err = fc_base_open(o.bundle, &o.settings, &base, message);
    if (err != ETSA_OK) return give_up(err, message);
    o.service.alive_ms = alive_ms();
    o.service.policy.need_known_answer = true;
    o.service.on_forecast = on_forecast;
    o.service.on_alive = on_alive;
    o.service.user = (void *)(uintptr_t)fc_bundle(base);
    ad_adapting *adapting = NULL;
    if (o.adapt != NULL) {
        err = ad_open(base, o.adapt, o.service.interval_ms, &adapting, message);
        o.service.learner = adapting;
        o.service.on_value = ad_value;
        o.service.on_end = ad_end;
        o.service.on_made = ad_made;
        o.service.on_idle = ad_idle;
    }
    if (err == ETSA_OK) err = sv_start(base, &o.service, &service, message);
    if (err != ETSA_OK) {
        ad_close(adapting);
        fc_base_close(base);
        return give_up(err, message);
    }
    static desk d;
    d = (desk){.service = service, .o = &o, .figures = load_quality(service, &o), .save_at = now_ms() + SAVE_MS,
               .signals = signals, .adapting = adapting};
    if (o.health_file != NULL && hf_identify(&d.process, message) != ETSA_OK) {
        d.process.boot[0] = '\0';
        fprintf(stderr, "etsa-service: nobody can judge a trial: %s\n", message);
    }
    load_adapters(&d);
    save_health(&d);
    notify("READY=1");
    bool good = serve(&d);
    if (!good) fprintf(stderr, "etsa-service: the input failed: %s\n", strerror(errno));
    notify("STOPPING=1");
    sv_counts counts = sv_count(service);
    sv_finish(service);
    print_quality(service, o.service.channels);
    save_quality(&d);
    save_health(&d);
    free(d.figures);
    free(d.adaptation);
    close(signals);
    ad_close(adapting);
    sv_stop(service);
    fc_base_close(base);
    if (counts.rejected > 0) fprintf(stderr, "etsa-service: %llu values were rejected\n", (unsigned long long)counts.rejected);
    if (counts.late > 0) fprintf(stderr, "etsa-service: %llu values came too late\n", (unsigned long long)counts.late);
    if (counts.stray > 0) fprintf(stderr, "etsa-service: %llu values strayed\n", (unsigned long long)counts.stray);
    if (counts.skipped > 0) fprintf(stderr, "etsa-service: %llu steps were skipped\n", (unsigned long long)counts.skipped);
    if (output_lost) fprintf(stderr, "etsa-service: forecasts could not be written\n");
    return good && !output_lost ? 0 : 1; /* a failure: the supervisor starts it again */
}
