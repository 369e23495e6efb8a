/* Chooses how numbers are coded, from how many there are of each length: a
 * code's bits depend on nothing else, so every price here is exact.
 *
 * One more in k costs each number of up to k bits a bit and saves each of more
 * than k + 1 one; so the best k is the first at which that no longer pays. */
#include "sql/codec/chunk_pack.h"

void tally_merge(struct tally *t, const struct tally *more)
{
    t->any |= more->any;
    t->n += more->n;
    t->negative |= more->negative;
    for (unsigned i = 0; i <= bits_length(more->any); i++) {
        t->lengths[i] = (uint16_t)(t->lengths[i] + more->lengths[i]);
    }
}

unsigned tally_fit_k(const struct tally *t, unsigned shift)
{
    unsigned longest = bits_length(t->any) - shift;
    uint32_t up_to = t->lengths[0]; /* numbers of up to k bits */
    unsigned k = 0;

    while (k < longest) {
        uint32_t next = up_to + t->lengths[shift + k + 1];
        if (up_to + next >= t->n && k + CODE_ZEROS_MAX >= longest) {
            break;
        }
        up_to = next;
        k++;
    }
    return k < 64 ? k : 63;
}

/* Bits of the codes and signs. */
static uint64_t price(const struct tally *t, struct params p)
{
    unsigned longest = bits_length(t->any);
    uint64_t bits = (uint64_t)t->lengths[0] * code_bits(0, p.k);

    for (unsigned i = p.shift + 1u; i <= longest; i++) {
        bits += (uint64_t)t->lengths[i] * code_bits(i - p.shift, p.k);
    }
    if (p.mode == PARAMS_SIGNED) {
        bits += t->n - t->lengths[0];
    }
    return bits;
}

uint64_t tally_default_price(const struct tally *t, struct params p)
{
    unsigned longest = bits_length(t->any);

    if (p.mode < PARAMS_UNSIGNED ||
        (p.mode == PARAMS_UNSIGNED && t->negative) ||
        (t->any & ((UINT64_C(1) << p.shift) - 1)) != 0 ||
        longest > (unsigned)CODE_ZEROS_MAX + p.k + p.shift) {
        return UINT64_MAX;
    }
    return 2 + price(t, p);
}

struct fit tally_fit(const struct tally *t)
{
    if (t->any == 0) {
        return (struct fit){.params = {.mode = PARAMS_ZERO}, .bits = 2};
    }
    const uint8_t mode = t->negative ? PARAMS_SIGNED : PARAMS_UNSIGNED;
    unsigned shift = (unsigned)__builtin_ctzll(t->any);
    struct fit plain = {.params = {mode, (uint8_t)tally_fit_k(t, 0), 0}};
    plain.bits = PARAMS_MAX_BITS - 6 + price(t, plain.params);
    if (shift == 0) {
        return plain;
    }
    struct fit shifted = {
        .params = {mode, (uint8_t)tally_fit_k(t, shift), (uint8_t)shift}};
    shifted.bits = PARAMS_MAX_BITS + price(t, shifted.params);
    return shifted.bits < plain.bits ? shifted : plain;
}
