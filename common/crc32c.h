/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), by SSE 4.2 where the CPU has
 * it. */
#ifndef PSC_COMMON_CRC32C_H
#define PSC_COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Extend @crc (0 at the start) over @len bytes. */
uint32_t psc_crc32c(uint32_t crc, const void *data, size_t len);

#endif
