/* "Shocker": a file handle made up of an inode number opens the host's files, to those that may open handles. */

#include "attack.h"

static void attack(int argc, char **argv)
{
	struct { unsigned bytes; int type; unsigned inode[2]; } root = { 8, 1, { 2, 0 } };
	struct { unsigned bytes; int type; unsigned char handle[128]; } own = { 128, 0, { 0 } };
	static const char *const places[] = { "/", "/proc", "/dev", "/etc/hosts", "/sys" };
	word at;
	int id;

	(void)argc;
	(void)argv;
	for (at = 0; at < sizeof(places) / sizeof(*places); at++) {
		long dir = CALL(__NR_open, places[at], O_RDONLY);

		/* An image need not have them all. */
		if (dir < 0)
			continue;
		refused(places[at], CALL(__NR_open_by_handle_at, dir, &root, O_RDONLY), EPERM);
		own.bytes = 128;
		if (CALL(__NR_name_to_handle_at, dir, "", &own, &id, AT_EMPTY_PATH) == 0)
			refused(places[at], CALL(__NR_open_by_handle_at, dir, &own, O_RDONLY), EPERM);
	}
}
