/* Between pki.c and pki_ca.c only. */
#ifndef PSC_COMMON_PKI_INTERNAL_H
#define PSC_COMMON_PKI_INTERNAL_H

#include <openssl/x509.h>
#include <stdbool.h>

#include "common/error.h"

#define PKI_HOST_URI "poolscope:host:"

enum { PKI_NAME_MAX_BYTES = 64 }; /* X.520's bound of a common name */

/* Whether OpenSSL's last error was for want of memory. */
bool pki_out_of_memory(void);

/* Fill @err with "<what>: <OpenSSL's reason>" and empty OpenSSL's queue.
 * Returns @code, or PSC_NOMEM where that was the reason. */
int pki_fail(struct psc_error *err, int code, const char *what);

/* Make @common_name the subject: cut to 64 bytes, and what is not a letter, a
 * digit or one of ". -_" becomes "_". Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int pki_set_name(X509_NAME *name, const char *common_name);

#endif
