"""The Python runtime: what runs inside the sandbox, on Python 3.8 and later, with the standard library only.

``main.py`` is the program. It reads frames from a socket, loads the function once and answers one call at a time:

* it says ``hello`` when it runs;
* ``start`` {entrypoint, function, code, packages, env, variables, context} is answered by ``ready``, or by ``failed``
  {layer} with the reason as body;
* ``call`` {context, headers} and the payload as body is answered by ``answer`` {status, kind, layer} and the result;
  ``last`` is there and true when the process can't take a further call.
"""
