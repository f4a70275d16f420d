/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tell the service manager what the server does: sd_notify(3) without its library. */
#ifndef GLM4V_SERVE_NOTIFY_H
#define GLM4V_SERVE_NOTIFY_H

/* Send e.g. "READY=1" to $NOTIFY_SOCKET. Nothing where it is not set; failures do not matter. */
void serve_notify(const char *state);

#endif
