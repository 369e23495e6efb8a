/* CRC-32C: the SSE 4.2 instruction where there is one, else a table made from
 * the reflected polynomial of RFC 3720. */
#include "common/crc32c.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u

static uint32_t crc_portable(uint32_t crc, const uint8_t *p, size_t len)
{
    uint32_t nibbles[16];
    for (uint32_t i = 0; i < 16; i++) {
        nibbles[i] = i;
        for (int bit = 0; bit < 4; bit++) {
            uint32_t carry = (nibbles[i] & 1) != 0 ? POLYNOMIAL : 0;
            nibbles[i] = (nibbles[i] >> 1) ^ carry;
        }
    }
    while (len-- > 0) {
        crc ^= *p++;
        crc = (crc >> 4) ^ nibbles[crc & 15];
        crc = (crc >> 4) ^ nibbles[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc,
                                                            const uint8_t *p,
                                                            size_t len)
{
    uint64_t c = crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        c = __builtin_ia32_crc32di(c, word);
    }
    crc = (uint32_t)c;
    while (len-- > 0) {
        crc = __builtin_ia32_crc32qi(crc, *p++);
    }
    return crc;
}
#endif

uint32_t psc_crc32c(uint32_t crc, const void *data, size_t len)
{
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc_sse42(crc, data, len);
    }
#endif
    return ~crc_portable(crc, data, len);
}
