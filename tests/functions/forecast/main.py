def forecast(store: str, days: int = 7, *, scale: float = 1.0):
    return {"store": store, "days": days, "scale": scale}
