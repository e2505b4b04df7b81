/* How the forecaster says no. It calls nothing of the other files, and all of them call it. */
#include "parts.h"

#include <stdarg.h>
#include <stdio.h>

etsa_err fc_refuse(fc_message message, etsa_err code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, FC_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    return code;
}

etsa_err fc_whole(const fc_base *base, const char *name, uint32_t least, uint32_t most, uint32_t *value, fc_message message)
{
    if (!etsa_bundle_count(&base->bundle, name, value) || *value < least || *value > most) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: parameters.%s: want a whole number from %u to %u", name,
                         (unsigned)least, (unsigned)most);
    }
    return ETSA_OK;
}
