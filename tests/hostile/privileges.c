/* Set-user-id programs gain root (as sudo and su must) unless no-new-privileges was asked for, and no more than what root
 * has in a container. As GAINS: nothing is an attack, it must work. */

#include "attack.h"

#define PR_GET_NO_NEW_PRIVS 39
#define DEFAULT_CAPABILITIES 0xa80425fbUL

static void attack(int argc, char **argv)
{
	struct { unsigned version; int pid; } header = { 0x20080522, 0 };
	struct { unsigned effective, permitted, inheritable; } sets[2];

	(void)argc;
	(void)argv;
	works("capget", CALL(__NR_capget, &header, sets));
	refused("more than the default capabilities",
		-!((sets[0].permitted & ~DEFAULT_CAPABILITIES) || sets[1].permitted), 0);
#ifdef GAINS
	refused("no_new_privs", -!CALL(__NR_prctl, PR_GET_NO_NEW_PRIVS), 0);
	refused("a user that is not root's", -(CALL(__NR_geteuid) == 0), 0);
	refused("less than the default capabilities", -(sets[0].effective == DEFAULT_CAPABILITIES), 0);
#else
	refused("root by a set-user-id program", -(CALL(__NR_geteuid) != 0), 0);
	refused("capabilities by a set-user-id program", -!sets[0].permitted, 0);
#endif
}
