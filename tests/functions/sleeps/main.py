import time

calls = 0


def main(req, res):
    global calls
    calls += 1
    print("going to sleep", flush=False)
    time.sleep(float(req.payload or 0))
    res.send(str(calls))
