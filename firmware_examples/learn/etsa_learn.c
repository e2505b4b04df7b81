#include "etsa_learn.h"

#include <math.h>

#ifdef __FAST_MATH__
#error "learning must round each operation: compile without -ffast-math"
#endif

#define FAR 20.0f                  /* targets are clipped at so many scales from their context's mean */
#define ROUNDED (1.0f / 1048576.0f) /* 2^-20 */
#define KEEP_FIRST 0.9f
#define KEEP_SECOND 0.999f
#define TINY 1e-8f
#define VANISHED 800000u /* steps after which both powers are 0 */
#define HELD (1.0 + 1e-6) /* tolerance of a cap, for sums in float32 */

/* Round to float before the value is used, even if the compiler would fuse the operation or keep it wider. */
static float single(float value)
{
    volatile float stored = value;
    return stored;
}

static double rounded(double value)
{
    volatile double stored = value;
    return stored;
}

static bool is_number(double value) { return value - value == 0; } /* neither infinite nor NaN */

static float within(float value, float low, float high) { return value < low ? low : value > high ? high : value; }

/* A product of two floats is exact in a double, so fusing it with the sum changes nothing. Four sums, for a processor that
 * can have several in flight; once more for floats that are kept in doubles. */
static double dot(const float *a, const float *b, uint32_t size)
{
    double sums[4] = {0};
    uint32_t whole = size - size % 4;
    for (uint32_t i = 0; i < whole; i += 4)
        for (uint32_t k = 0; k < 4; k++) sums[k] += (double)a[i + k] * (double)b[i + k];
    for (uint32_t i = whole; i < size; i++) sums[0] += (double)a[i] * (double)b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static double dot_kept(const float *a, const double *b, uint32_t size)
{
    double sums[4] = {0};
    uint32_t whole = size - size % 4;
    for (uint32_t i = 0; i < whole; i += 4)
        for (uint32_t k = 0; k < 4; k++) sums[k] += (double)a[i + k] * b[i + k];
    for (uint32_t i = whole; i < size; i++) sums[0] += (double)a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static uint32_t made_size(const etl_block *b) { return b->level_count * b->prediction_length; }

bool etl_is_block(const etl_block *b)
{
    const uint32_t sides[] = {b->state_size, b->hidden_size, b->level_count, b->prediction_length, b->steps};
    const float *const weights[] = {b->hidden_weight, b->hidden_bias,     b->output_weight,
                                    b->output_bias,   b->residual_weight, b->residual_bias};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        if (sides[i] < 1 || sides[i] > ETL_MAX_SIDE) return false;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (weights[i] == NULL) return false;
    if (b->level_count > ETL_MAX_LEVELS || b->levels == NULL) return false;
    if (made_size(b) > ETL_MAX_SIDE || b->steps > b->prediction_length) return false;
    for (uint32_t j = 0; j < b->level_count; j++)
        if (!(b->levels[j] > (j > 0 ? b->levels[j - 1] : 0.0) && b->levels[j] < 1.0)) return false;
    return true;
}

uint32_t etl_shift_size(const etl_block *b) { return b->hidden_size + 2 * made_size(b); }

size_t etl_scratch_size(const etl_block *b) { return ((size_t)etl_shift_size(b) + 2 * (size_t)b->hidden_size) * sizeof(double); }

bool etl_varies(const float *context, size_t length, float loc)
{
    float most = 0, least = single(ROUNDED * (loc < 0 ? -loc : loc));
    for (size_t i = 0; i < length; i++) {
        float apart = single(context[i] - loc);
        if (apart < 0) apart = -apart;
        if (apart > most) most = apart; /* false for NaN */
    }
    return most > least;
}

/* The hidden layer after its ReLU: [F]. Rounded to float, so that products with it are exact. */
static void hidden_layer(const etl_block *b, const float *shift, const float *state, double *hidden)
{
    for (uint32_t f = 0; f < b->hidden_size; f++) {
        double sum = dot(b->hidden_weight + (size_t)f * b->state_size, state, b->state_size);
        float inner = single((float)(sum + (double)b->hidden_bias[f] + (double)shift[f]));
        hidden[f] = inner > 0 || inner != inner ? (double)inner : 0; /* NaN stays NaN */
    }
}

/* One output of the block, in scales around loc. */
static float made(const etl_block *b, const float *shift, const float *state, const double *hidden, uint32_t row)
{
    const float *output_shift = shift + b->hidden_size, *residual_shift = output_shift + made_size(b);
    double sum = dot_kept(b->output_weight + (size_t)row * b->hidden_size, hidden, b->hidden_size);
    sum += dot(b->residual_weight + (size_t)row * b->state_size, state, b->state_size);
    sum += (double)b->output_bias[row] + (double)output_shift[row];
    sum += (double)b->residual_bias[row] + (double)residual_shift[row];
    return single((float)sum);
}

void etl_forecast(const etl_block *b, const float *shift, const etl_window *w, double *scratch, float *quantiles)
{
    double *hidden = scratch;
    hidden_layer(b, shift, w->state, hidden);
    for (uint32_t h = 0; h < b->steps; h++) {
        for (uint32_t j = 0; j < b->level_count; j++) {
            float scaled = single(made(b, shift, w->state, hidden, j * b->prediction_length + h) * w->scale);
            quantiles[(size_t)h * b->level_count + j] = single(scaled + w->loc);
        }
    }
}

/* The number of steps of all windows that have a target to learn from. */
static uint32_t scored_steps(const etl_block *b, const etl_window *windows, uint32_t count)
{
    uint32_t scored = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t h = 0; h < b->steps && windows[i].varies; h++) scored += windows[i].target[h] == windows[i].target[h];
    return scored;
}

/* The loss of one level of one step, and its derivative by the block's output, before division by the number of steps. */
static double pinball(double level, float miss, double *slope)
{
    *slope = miss < 0 ? 1.0 - level : miss > 0 ? -level : 0.0;
    return miss < 0 ? (level - 1.0) * (double)miss : level * (double)miss;
}

/* Add one window's part of the gradient; return its loss. by_hidden[F] is scratch. */
static double add_window(const etl_block *b, const float *shift, const etl_window *w, double gain, double *hidden,
                         double *by_hidden, double *sums)
{
    double lost = 0;
    double *by_output = sums + b->hidden_size, *by_residual = by_output + made_size(b);
    hidden_layer(b, shift, w->state, hidden);
    for (uint32_t f = 0; f < b->hidden_size; f++) by_hidden[f] = 0;
    for (uint32_t h = 0; h < b->steps; h++) {
        if (w->target[h] != w->target[h]) continue;
        float far = within(single(single(w->target[h] - w->loc) / w->scale), -FAR, FAR);
        for (uint32_t j = 0; j < b->level_count; j++) {
            uint32_t row = j * b->prediction_length + h;
            double slope;
            lost += rounded(pinball(b->levels[j], single(far - made(b, shift, w->state, hidden, row)), &slope) * gain);
            float by_made = single((float)(slope * gain)); /* a float, so that the products below are exact */
            const float *weight = b->output_weight + (size_t)row * b->hidden_size;
            by_output[row] += (double)by_made;
            by_residual[row] += (double)by_made;
            for (uint32_t f = 0; f < b->hidden_size; f++) by_hidden[f] += (double)by_made * (double)weight[f];
        }
    }
    for (uint32_t f = 0; f < b->hidden_size; f++)
        if (hidden[f] > 0) sums[f] += by_hidden[f];
    return lost;
}

bool etl_gradient(const etl_block *b, const float *shift, const etl_window *windows, uint32_t count, double *scratch,
                  float *gradient, double *loss)
{
    uint32_t size = etl_shift_size(b), scored = scored_steps(b, windows, count);
    double *sums = scratch, *by_hidden = sums + size, *hidden = by_hidden + b->hidden_size;
    double gain = scored > 0 ? 2.0 / b->level_count / scored : 0;
    *loss = 0;
    for (uint32_t i = 0; i < size; i++) sums[i] = 0;
    for (uint32_t i = 0; i < count; i++)
        if (windows[i].varies) *loss += add_window(b, shift, &windows[i], gain, hidden, by_hidden, sums);
    bool finite = is_number(*loss);
    for (uint32_t i = 0; i < size; i++) {
        gradient[i] = single((float)sums[i]);
        finite = finite && is_number((double)gradient[i]);
    }
    return finite;
}

/* --- Adam ---------------------------------------------------------------------------------------------------------- */

size_t etl_optimiser_size(const etl_block *b) { return (size_t)5 * etl_shift_size(b) * sizeof(float); }

bool etl_begin(etl_optimiser *o, const etl_block *b, const etl_rules *rules, float *memory, size_t size)
{
    uint32_t count = etl_shift_size(b);
    if (size < etl_optimiser_size(b)) return false;
    if (!(rules->rate >= 0 && rules->rate <= 0.03 && rules->average >= 0 && rules->average <= 0.9999)) return false;
    if (!(rules->anchor >= 0 && rules->anchor <= 10 && rules->clip_norm >= 1e-3 && rules->clip_norm <= 100)) return false;
    if (!(rules->cap_tensor >= 0 && rules->cap_tensor <= 1 && rules->cap_day >= 0 && rules->cap_day <= 1)) return false;
    *o = (etl_optimiser){.rules = *rules, .sizes = {b->hidden_size, made_size(b), made_size(b)}, .size = count, .powers = {1, 1}};
    for (size_t i = 0; i < (size_t)5 * count; i++) memory[i] = 0;
    o->iterate = memory;
    o->mean = memory + count;
    o->first = memory + 2 * (size_t)count;
    o->second = memory + 3 * (size_t)count;
    o->morning = memory + 4 * (size_t)count;
    return true;
}

static double square_sum(const float *x, uint32_t size) { return dot(x, x, size); }

/* The factor that brings a root mean square down to `cap`; 1 if it is not above. */
static float shrink(double squares, uint32_t size, double cap, bool *held)
{
    double rms = sqrt(squares / size);
    if (!(rms > cap)) return 1.0f;
    *held = true;
    return single((float)(cap / rms));
}

/* Limit moved[n] to the cap of a day, then each tensor to its own cap; the result is the iterate. */
static void bound(etl_optimiser *o, const float *moved)
{
    double squares = 0;
    bool held = false;
    for (uint32_t i = 0; i < o->size; i++) {
        double apart = (double)single(moved[i] - o->morning[i]);
        squares += apart * apart;
    }
    float factor = shrink(squares, o->size, o->rules.cap_day, &held);
    for (uint32_t i = 0; i < o->size; i++) {
        float apart = single(single(moved[i] - o->morning[i]) * factor);
        o->iterate[i] = held ? single(o->morning[i] + apart) : moved[i];
    }
    float *at = o->iterate;
    for (uint32_t k = 0; k < ETL_BIASES; at += o->sizes[k++]) {
        factor = shrink(square_sum(at, o->sizes[k]), o->sizes[k], o->rules.cap_tensor, &held);
        for (uint32_t i = 0; i < o->sizes[k]; i++) at[i] = single(at[i] * factor);
    }
    o->capped += held;
}

bool etl_step(etl_optimiser *o, float *gradient, int64_t day, double *norm)
{
    float *g = gradient, anchor = single((float)(2 * o->rules.anchor)), rate = single((float)o->rules.rate);
    for (uint32_t i = 0; i < o->size; i++) g[i] = single(g[i] + single(anchor * o->iterate[i]));
    double length = sqrt(square_sum(g, o->size));
    if (norm != NULL) *norm = length;
    if (!is_number(length)) return false;
    if (!o->begun || o->day != day) {
        for (uint32_t i = 0; i < o->size; i++) o->morning[i] = o->iterate[i];
        o->begun = true;
        o->day = day;
    }
    float clip = length > o->rules.clip_norm ? single((float)(o->rules.clip_norm / length)) : 1.0f;
    o->steps++;
    o->powers[0] *= (double)KEEP_FIRST;
    o->powers[1] *= (double)KEEP_SECOND;
    float first_part = single((float)(1 - o->powers[0])), second_part = single((float)(1 - o->powers[1]));
    for (uint32_t i = 0; i < o->size; i++) {
        float one = single(g[i] * clip), rest = single((1 - KEEP_FIRST) * one);
        o->first[i] = single(single(KEEP_FIRST * o->first[i]) + rest);
        rest = single(single((1 - KEEP_SECOND) * one) * one);
        o->second[i] = single(single(KEEP_SECOND * o->second[i]) + rest);
        float pace = single(rate * single(o->first[i] / first_part));
        float size = single(single(sqrtf(single(o->second[i] / second_part))) + TINY);
        g[i] = single(o->iterate[i] - single(pace / size));
    }
    double first_ones = 1.0 / ((double)o->steps + 1), kept = 1 - o->rules.average;
    float pace = single((float)(kept > first_ones ? kept : first_ones)); /* the first iterates have equal weight */
    bound(o, g);
    for (uint32_t i = 0; i < o->size; i++) {
        float apart = single(o->iterate[i] - o->mean[i]);
        o->mean[i] = single(o->mean[i] + single(pace * apart));
    }
    return true;
}

bool etl_go_on(etl_optimiser *o)
{
    const float *const arrays[] = {o->iterate, o->mean, o->first, o->second, o->morning};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
        for (uint32_t i = 0; i < o->size; i++)
            if (!is_number((double)arrays[k][i]) || (arrays[k] == o->second && arrays[k][i] < 0)) return false;
    for (size_t k = 0; k < 2; k++) {
        const float *at = arrays[k];
        for (uint32_t t = 0; t < ETL_BIASES; at += o->sizes[t++])
            if (!(sqrt(square_sum(at, o->sizes[t]) / o->sizes[t]) <= o->rules.cap_tensor * HELD)) return false;
    }
    o->powers[0] = o->powers[1] = 1;
    for (uint64_t i = 0; i < o->steps && i < VANISHED; i++) { /* computed as in the steps: the same bits */
        o->powers[0] *= (double)KEEP_FIRST;
        o->powers[1] *= (double)KEEP_SECOND;
    }
    return true;
}
